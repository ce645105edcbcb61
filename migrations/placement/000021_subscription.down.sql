DROP TABLE {{schema}}.subscription_event;
DROP TABLE {{schema}}.subscription;
DROP TABLE {{schema}}.subscription_feed;
DROP INDEX {{schema}}.change_xid;
