//! The state machine of a trigger. (Stub.)
