//! Settings: a file that is read is read the same after it was written again, and its rules of access are sound or said not
//! to be.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use registry_server::{auth, config};

fuzz_target!(|text: &str| {
    let path = Path::new("config.yml");
    match config::from_text(path, text) {
        Ok(loaded) => {
            let written = serde_json::to_string(&loaded.config).unwrap();
            let again =
                config::from_text(path, &written).unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!(again.config, loaded.config, "{written}");
            if let Err(error) = auth::check(&loaded.config) {
                assert!(error.field.starts_with("rules"), "{error}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
