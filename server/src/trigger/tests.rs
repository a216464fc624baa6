//! Rules against the interpreter. Tests only.
