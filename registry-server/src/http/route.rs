//! Method and path → what is asked for. Every endpoint stands here.
//!
//! Spec: distribution-spec "Endpoints". Paths are read from their right end, because a repository may be called
//! `a/blobs` or `a/manifests` too. Both slash forms of an upload's address are taken: a redirect would turn the
//! POST of many clients into a GET.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::config::Right;
use crate::types::digest::ParseDigestError;
use crate::types::name::ParseNameError;
use crate::types::reference::ParseReferenceError;
use crate::types::upload_id::ParseUploadIdError;
use crate::types::{Digest, Reference, RepositoryName, UploadId};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`: does the server speak this protocol, and do the credentials hold? (end-1)
    Base,
    /// `/v2/_catalog`: all repositories.
    Catalog,
    /// `/v2/<name>/tags/list` (end-8)
    Tags(RepositoryName),
    /// `/v2/<name>/manifests/<reference>` (end-3, end-7, end-9)
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/blobs/<digest>` (end-2, end-10)
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/referrers/<digest>` (end-12)
    Referrers(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/` (end-4, end-11)
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>` (end-5, end-6, end-13, end-14)
    Upload(RepositoryName, UploadId),
}

/// Why a path names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RouteError {
    /// The path is none of the API's.
    #[error("the API has no such path")]
    NotFound,
    /// The part that should be a repository's name is not one.
    #[error(transparent)]
    Name(#[from] ParseNameError),
    /// The part that should be a digest is not one.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// The part that should be a tag or digest is neither.
    #[error(transparent)]
    Reference(#[from] ParseReferenceError),
    /// A manifest is asked for by what can be no tag.
    #[error("no manifest can have such a tag")]
    NoSuchTag,
    /// The part that should be an upload's id is not one.
    #[error(transparent)]
    UploadId(#[from] ParseUploadIdError),
}

impl Route {
    /// Reads the path that comes after the server's prefix, `v2/…`.
    pub(super) fn parse(method: &Method, path: &str) -> Result<Self, RouteError> {
        let decoded = percent_decode_str(path).decode_utf8().map_err(|_| RouteError::NotFound)?;
        let path = match decoded.strip_prefix("v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) => rest.strip_prefix('/').ok_or(RouteError::NotFound)?,
            None => return Err(RouteError::NotFound),
        };
        if path == "_catalog" {
            return Ok(Self::Catalog);
        }
        let without_slash = path.strip_suffix('/').unwrap_or(path);
        if let Some(name) = without_slash.strip_suffix("/blobs/uploads") {
            return Ok(Self::Uploads(name.parse()?));
        }
        if let Some(name) = path.strip_suffix("/tags/list") {
            return Ok(Self::Tags(name.parse()?));
        }
        let (rest, last) = path.rsplit_once('/').ok_or(RouteError::NotFound)?;
        if let Some(name) = rest.strip_suffix("/blobs/uploads") {
            return Ok(Self::Upload(name.parse()?, last.parse()?));
        }
        if let Some(name) = rest.strip_suffix("/manifests") {
            let reference = last.parse().map_err(|error| match error {
                // What cannot be pushed is not there either, whoever asks for it.
                ParseReferenceError::Tag if method != Method::PUT => RouteError::NoSuchTag,
                error => error.into(),
            })?;
            return Ok(Self::Manifest(name.parse()?, reference));
        }
        if let Some(name) = rest.strip_suffix("/referrers") {
            return Ok(Self::Referrers(name.parse()?, last.parse()?));
        }
        if let Some(name) = rest.strip_suffix("/blobs") {
            return Ok(Self::Blob(name.parse()?, last.parse()?));
        }
        Err(RouteError::NotFound)
    }

    /// The methods that the path takes.
    pub(super) fn methods(&self) -> &'static [Method] {
        match self {
            Self::Base | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => &[Method::GET, Method::HEAD],
            Self::Manifest(..) => &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
            Self::Blob(..) => &[Method::GET, Method::HEAD, Method::DELETE],
            Self::Uploads(_) => &[Method::POST],
            Self::Upload(..) => &[Method::GET, Method::HEAD, Method::PATCH, Method::PUT, Method::DELETE],
        }
    }

    /// The right that the method asks for on this path, if it asks for any.
    pub(super) fn right(&self, method: &Method) -> Option<Right> {
        match self {
            Self::Base => None,
            Self::Catalog => Some(Right::List),
            Self::Tags(_) | Self::Referrers(..) => Some(Right::Pull),
            Self::Uploads(_) | Self::Upload(..) => Some(Right::Push),
            Self::Manifest(..) | Self::Blob(..) => Some(match *method {
                Method::GET | Method::HEAD => Right::Pull,
                Method::DELETE => Right::Delete,
                _ => Right::Push,
            }),
        }
    }

    /// The repository that the path is about.
    pub(super) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Tags(name)
            | Self::Referrers(name, _)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _) => Some(name),
        }
    }

    /// The endpoint's name in metrics, as in CNCF distribution.
    pub(super) fn handler(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags(_) => "tags",
            Self::Referrers(..) => "referrers",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Uploads(_) => "blob_upload",
            Self::Upload(..) => "blob_upload_chunk",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn paths_are_read_from_their_right_end() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let rows = [
            ("v2".to_owned(), Route::Base),
            ("v2/".to_owned(), Route::Base),
            ("v2/_catalog".to_owned(), Route::Catalog),
            ("v2/a/tags/list".to_owned(), Route::Tags(name("a"))),
            ("v2/a/manifests/tags/list".to_owned(), Route::Tags(name("a/manifests"))),
            ("v2/a/tags/manifests/list".to_owned(), Route::Manifest(name("a/tags"), "list".parse().unwrap())),
            (format!("v2/a/manifests/{digest}"), Route::Manifest(name("a"), digest.parse().unwrap())),
            (format!("v2/a/manifests/{}", digest.replace(':', "%3A")), {
                Route::Manifest(name("a"), digest.parse().unwrap())
            }),
            (format!("v2/a/b/referrers/{digest}"), Route::Referrers(name("a/b"), digest.parse().unwrap())),
            (format!("v2/a/b/blobs/{digest}"), Route::Blob(name("a/b"), digest.parse().unwrap())),
            (format!("v2/a/blobs/blobs/{digest}"), Route::Blob(name("a/blobs"), digest.parse().unwrap())),
            ("v2/a/blobs/uploads".to_owned(), Route::Uploads(name("a"))),
            ("v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("v2/a/blobs/uploads/blobs/uploads/".to_owned(), Route::Uploads(name("a/blobs/uploads"))),
            (format!("v2/a/blobs/uploads/{ID}"), Route::Upload(name("a"), ID.parse().unwrap())),
        ];
        for (path, route) in rows {
            assert_eq!(Route::parse(&Method::GET, &path), Ok(route), "{path}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_path_is_told_apart() {
        let rows = [
            ("", RouteError::NotFound),
            ("v1/", RouteError::NotFound),
            ("v2x", RouteError::NotFound),
            ("v2/a", RouteError::NotFound),
            ("v2/a/b/c", RouteError::NotFound),
            ("v2/%ff/tags/list", RouteError::NotFound),
            ("v2/A/tags/list", RouteError::Name(ParseNameError)),
            ("v2/../tags/list", RouteError::Name(ParseNameError)),
            ("v2/a%2F..%2Fb/tags/list", RouteError::Name(ParseNameError)),
            ("v2/a/blobs/sha256:x", RouteError::Digest(ParseDigestError::Malformed)),
            ("v2/a/referrers/latest", RouteError::Digest(ParseDigestError::Malformed)),
            ("v2/a/blobs/latest", RouteError::Digest(ParseDigestError::Malformed)),
            ("v2/a/manifests/.x", RouteError::NoSuchTag),
            ("v2/a/manifests/sha256:x", RouteError::Reference(ParseDigestError::Malformed.into())),
            ("v2/a/blobs/uploads/x", RouteError::UploadId(ParseUploadIdError)),
        ];
        for (path, error) in rows {
            assert_eq!(Route::parse(&Method::GET, path), Err(error), "{path}");
        }
        let put = Route::parse(&Method::PUT, "v2/a/manifests/.x");
        assert_eq!(put, Err(RouteError::Reference(ParseReferenceError::Tag)));
    }
}
