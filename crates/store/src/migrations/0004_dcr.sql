-- What the standards face knows of a client that was registered there.
ALTER TABLE registrations ADD COLUMN dcr TEXT;                           -- JSON: its route, its terms, SHA-256 of its secret
