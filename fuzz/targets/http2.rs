//! See `lictor::fuzz::http2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lictor::fuzz::http2(data));
