#![no_main]

#[path = "../laws/mod.rs"]
#[expect(dead_code, unused_imports, reason = "each target holds one of them")]
mod laws;

libfuzzer_sys::fuzz_target!(|input: laws::AckIdText| input.hold());
