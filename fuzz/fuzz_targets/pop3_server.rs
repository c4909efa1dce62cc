#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| correo_fuzz::pop3_server::run(data));
