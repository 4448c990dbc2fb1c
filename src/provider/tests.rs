//! Providers against answers that are not what they should be.
