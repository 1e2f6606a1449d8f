-- Where attempts failed, and why: what tells a retry storm from one slow answer.
ALTER TABLE requests ADD COLUMN failures TEXT NOT NULL DEFAULT '';
