-- Clients that were registered openly: how many there are, and which go if they are not used. All others have NULL in both,
-- and stand in neither index.
ALTER TABLE registrations ADD COLUMN open_route text COLLATE "C";       -- the route
ALTER TABLE registrations ADD COLUMN unused_until bigint;               -- NULL: used, or not subject to it

CREATE INDEX registrations_open ON registrations (open_route, state) WHERE open_route IS NOT NULL;
CREATE INDEX registrations_unused ON registrations (unused_until, id) WHERE unused_until IS NOT NULL;
