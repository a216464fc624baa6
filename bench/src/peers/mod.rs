//! What Forebay is measured against: ceilings that do less than it does, on the same data.

pub mod echo;
pub mod raw_kafka;
