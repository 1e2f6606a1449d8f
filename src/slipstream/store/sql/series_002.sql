-- Sketches of before have their buckets' bounds at powers of two of a nanosecond, those of now at powers of
-- two of a second: a quantile over both would be off by more than it promises.
UPDATE point SET sketch = NULL;
