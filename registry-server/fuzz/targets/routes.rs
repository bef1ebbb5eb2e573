//! Paths of requests: whatever a path is, the repository that it names lies inside the tree.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    for method in [Method::GET, Method::PUT] {
        if let Some(name) = registry_server::http::repository_of_path(&method, path) {
            let name = name.as_str();
            let is_safe = |part| !["", ".", ".."].contains(&part) && !part.starts_with('_');
            assert!(name.split('/').all(is_safe), "{path:?} leads to {name:?}");
        }
    }
});
