//! Parameters of a request's query.

use http::request::Parts;

use super::error::Error;

/// The first value of a parameter, decoded.
pub(super) fn parameter(parts: &Parts, name: &str) -> Option<String> {
    parameters(parts, name).next()
}

/// All values of a parameter, decoded.
pub(super) fn parameters(parts: &Parts, name: &str) -> impl Iterator<Item = String> {
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let values = form_urlencoded::parse(query).filter(move |(key, _)| key == name);
    values.map(|(_, value)| value.into_owned())
}

/// The page size that a client asks for with `n`.
pub(super) fn page_size(parts: &Parts) -> Result<Option<usize>, Error> {
    parameter(parts, "n").map(|n| n.parse().map_err(|_| Error::PageSize)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(query: &str) -> Parts {
        http::Request::builder().uri(format!("/v2/_catalog?{query}")).body(()).unwrap().into_parts().0
    }

    #[test]
    fn parameters_are_decoded_and_page_sizes_checked() {
        assert_eq!(parameter(&parts("last=a%2Fb&n=3"), "last").as_deref(), Some("a/b"));
        assert_eq!(parameter(&parts("n=3"), "last"), None);
        assert_eq!(page_size(&parts("last=x")).unwrap(), None);
        assert_eq!(page_size(&parts("n=0")).unwrap(), Some(0));
        for query in ["n=", "n=abc", "n=-1", "n=1.5", "n=99999999999999999999999"] {
            assert!(page_size(&parts(query)).is_err(), "{query}");
        }
    }
}
