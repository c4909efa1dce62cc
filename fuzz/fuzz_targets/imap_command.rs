#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| correo_fuzz::imap_command::run(data));
