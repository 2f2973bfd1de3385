-- An index less to write for every new client. The list of one backend's clients is read in the order of their ids and
-- leaves out the others: a walk through all of it costs one walk through the table.
DROP INDEX registrations_by_backend;
