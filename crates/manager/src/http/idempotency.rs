//! `Idempotency-Key`: a repeated POST gets the answer of the first one.
