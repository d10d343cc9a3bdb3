//! A private network namespace with a simulated IMDS.
