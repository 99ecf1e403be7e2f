//! The guard against a table of URLs and a table of addresses.
