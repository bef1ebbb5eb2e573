//! The chapter "Content Discovery", and the catalogue that CNCF distribution has beside it.

mod catalog;
mod referrers;
mod tags;

use serde_json::Value;

use crate::harness::client::{Client, get};

/// All pages that following `Link` from `target` gives; each is the list under `key`.
async fn pages(client: &mut Client, target: &str, key: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = Some(target.to_owned());
    while let Some(target) = next {
        assert!(pages.len() < 100, "the pages of {target} never end");
        let answer = client.send(get(&target)).await;
        assert_eq!(answer.status, 200, "{target}: {answer}");
        pages.push(strings(&answer.json()[key]));
        next = answer.header("link").map(|link| target_of(link).to_owned());
    }
    pages
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("a list, not {list}"));
    list.iter().map(|entry| entry.as_str().unwrap().to_owned()).collect()
}

/// The target of `<target>; rel="next"`, which is relative.
fn target_of(link: &str) -> &str {
    let target = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
    target
        .filter(|target| target.starts_with("/v2/"))
        .unwrap_or_else(|| panic!("a link to the next page, not {link}"))
}
