"""What stands in a column, and the codes of what can be wrong with a store. It knows no database."""

Value = str | int | float | bytes | None
"""What a column may hold."""

BUSY = "store_busy"
FULL = "store_full"
UNWRITABLE = "store_unwritable"
DAMAGED = "store_damaged"
ROW_REFUSED = "store_row_refused"
BROKEN = "store_broken"
