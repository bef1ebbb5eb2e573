//! Headers that several endpoints share.

use http::header::{ETAG, IF_NONE_MATCH, LINK};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::types::Digest;

/// The digest of the content that is answered with or was stored.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Which filters a list was made with.
pub(super) const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// What a pushed manifest is about: the server lists it among the referrers of that.
pub(super) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// A tag that a manifest, pushed by its digest, was given.
pub(super) const TAG: HeaderName = HeaderName::from_static("oci-tag");
/// The id of an upload session.
pub(super) const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// What may not stand in a query's value.
const QUERY: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'&').add(b'+').add(b'%').add(b'<').add(b'>');

/// A header's value from text that the server made.
pub(super) fn header_value(text: &str) -> HeaderValue {
    // What cannot stand in a header can only have come from the configuration; leaving it out harms nobody.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// `Docker-Content-Digest` and `ETag` of content.
pub(super) fn insert_digest(headers: &mut HeaderMap, digest: &Digest) {
    headers.insert(CONTENT_DIGEST, header_value(&digest.to_string()));
    headers.insert(ETAG, header_value(&format!("\"{digest}\"")));
}

/// The `Range` of an upload session: `0-<last byte>`.
///
/// A session of no bytes says `0-0` like one of one byte: clients insist on the end not being before the start.
pub(super) fn upload_range(size: u64) -> HeaderValue {
    header_value(&format!("0-{}", size.saturating_sub(1)))
}

/// Whether the client has the content already (RFC 9110 §13.1.2). An unquoted digest is taken too.
pub(super) fn is_not_modified(request: &HeaderMap, digest: &Digest) -> bool {
    let matches = |tag: &str| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == digest.to_string()
    };
    let mut values = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.split(',').any(matches))
}

/// The link to the next page of a list (RFC 8288), at `path` with `parameters`.
pub(super) fn insert_next_link<'a>(
    headers: &mut HeaderMap,
    path: &str,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let encoded = parameters.into_iter().map(|(key, value)| {
        let value = utf8_percent_encode(value, QUERY);
        format!("{key}={value}")
    });
    let query = encoded.collect::<Vec<_>>().join("&");
    headers.insert(LINK, header_value(&format!("<{path}?{query}>; rel=\"next\"")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_matches_in_all_the_forms_that_clients_send() {
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let rows = [
            (format!("\"{digest}\""), true),
            (format!("W/\"{digest}\""), true),
            (digest.to_string(), true),
            (format!("\"x\", \"{digest}\""), true),
            ("*".to_owned(), true),
            ("\"x\"".to_owned(), false),
            (String::new(), false),
        ];
        for (value, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, value.parse().unwrap());
            assert_eq!(is_not_modified(&headers, &digest), expected, "{value}");
        }
        assert!(!is_not_modified(&HeaderMap::new(), &digest));
    }

    #[test]
    fn the_range_of_a_session_ends_at_its_last_byte() {
        for (size, range) in [(0, "0-0"), (1, "0-0"), (5, "0-4")] {
            assert_eq!(upload_range(size), range);
        }
    }

    #[test]
    fn a_link_to_the_next_page_is_encoded() {
        let mut headers = HeaderMap::new();
        insert_next_link(&mut headers, "/v2/_catalog", [("last", "a/b+c&d"), ("n", "5")]);
        assert_eq!(headers[LINK], "</v2/_catalog?last=a/b%2Bc%26d&n=5>; rel=\"next\"");
    }
}
