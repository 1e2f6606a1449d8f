"""The condition language of alerts: text in, a closed tree out, and closures over `Readings`; no eval."""
