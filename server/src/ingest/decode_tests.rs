//! Tests of `decode`: every reason, pure.
