-- What the gateway has noticed of a client and no vendor shows: a JSON object. NULL for the many about which there is nothing.
ALTER TABLE registrations ADD COLUMN notes TEXT;
