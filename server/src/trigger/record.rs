//! The state record of a trigger. (Stub.)
