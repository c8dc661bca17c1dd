//! The operations, one noun a file: safe Rust over `logitscope-simd`.
#![forbid(unsafe_code)]
