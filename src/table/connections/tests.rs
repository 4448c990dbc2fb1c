//! Of two that race, one wins; what was used is gone.
