-- The rest of an upstream's entry, as TOML, where the settings file lacked it and it was written with the fix.
ALTER TABLE advices ADD COLUMN written TEXT NOT NULL DEFAULT '';
