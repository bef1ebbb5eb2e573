//! Manifests: the bytes as they were pushed, and a view of what they refer to.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use super::descriptor::Descriptor;
use super::digest::Digest;
use super::media_type::ManifestMediaType;

/// A manifest that can be read. Clones share it.
#[derive(Clone, Debug)]
pub struct Manifest {
    bytes: Bytes,
    media_type: ManifestMediaType,
    view: Arc<View>,
}

/// Why bytes are not a manifest that the registry can keep.
#[derive(Debug, thiserror::Error)]
pub enum ParseManifestError {
    /// The bytes are not JSON of a manifest's shape.
    #[error("the manifest is not valid JSON of its kind")]
    Json(#[source] serde_json::Error),
    /// Neither the request nor the manifest says of which kind it is, and its shape does not either.
    #[error("the manifest has no media type: give it as Content-Type or in its field mediaType")]
    NoMediaType,
    /// The kind is none that the registry keeps.
    #[error(
        "manifests of type {found:?} are not supported, push an OCI or Docker schema 2 manifest or index"
    )]
    UnsupportedMediaType {
        /// The media type as it was given.
        found: String,
    },
    /// The request and the manifest disagree about the kind.
    #[error("the Content-Type is {header:?} but the manifest's mediaType is {field:?}")]
    Mismatch {
        /// The request's `Content-Type`.
        header: String,
        /// The manifest's own `mediaType`.
        field: String,
    },
    /// `schemaVersion` is not 2.
    #[error("the manifest's schemaVersion must be 2")]
    SchemaVersion,
    /// An index that lists blobs, or an image without a config.
    #[error("the manifest's fields are not those of its media type {0}")]
    Shape(ManifestMediaType),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct View {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
}

/// All that a stored manifest leads to, of whatever kind and age it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Config, layers and blobs, those that may be elsewhere as well, and their sizes in bytes; 0 when it is not said.
    pub blobs: Vec<(Digest, u64)>,
    /// The manifests that an index lists.
    pub children: Vec<Digest>,
    /// What it is about.
    pub subject: Option<Digest>,
}

/// The fields by which any kind of manifest refers to something.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Links {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// Of the artifact manifest that OCI has given up.
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    /// Of Docker's schema 1.
    fs_layers: Option<Vec<FsLayer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FsLayer {
    blob_sum: Digest,
}

impl References {
    /// Reads them from a manifest as it is stored.
    ///
    /// # Errors
    /// [`ParseManifestError`] when the bytes are no manifest of a known shape: then they may lead anywhere.
    pub fn of(bytes: &[u8]) -> Result<Self, ParseManifestError> {
        let links: Links = serde_json::from_slice(bytes).map_err(ParseManifestError::Json)?;
        let known = links.config.is_some()
            || links.layers.is_some()
            || links.blobs.is_some()
            || links.manifests.is_some()
            || links.fs_layers.is_some();
        if !known {
            return Err(ParseManifestError::NoMediaType);
        }
        // BuildKit's caches list layers in an index.
        let (children, listed): (Vec<_>, Vec<_>) =
            links.manifests.into_iter().flatten().partition(Descriptor::may_be_manifest);
        let layers = links.layers.into_iter().chain(links.blobs).flatten();
        let blobs = links.config.into_iter().chain(layers).chain(listed);
        let fs_layers = links.fs_layers.into_iter().flatten().map(|layer| (layer.blob_sum, 0));
        Ok(Self {
            blobs: blobs.map(|blob| (blob.digest, blob.size)).chain(fs_layers).collect(),
            children: children.into_iter().map(|child| child.digest).collect(),
            subject: links.subject.map(|subject| subject.digest),
        })
    }
}

/// Just enough to name the kind of bytes that were checked when they were pushed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl Manifest {
    /// Reads a manifest that a client pushes with the `Content-Type` given.
    ///
    /// # Errors
    /// See [`ParseManifestError`]: the kind must be known, agree between header and field, and fit the fields.
    pub fn parse(bytes: Bytes, content_type: Option<&str>) -> Result<Self, ParseManifestError> {
        // A garbage collection reads more fields than these, and stops at a manifest that it cannot read. They are looked
        // at and forgotten first: both views of a long index would take twice the memory.
        if let Err(unreadable @ ParseManifestError::Json(_)) = References::of(&bytes) {
            return Err(unreadable);
        }
        let view: View = serde_json::from_slice(&bytes).map_err(ParseManifestError::Json)?;
        let media_type = view.media_type(content_type)?;
        if view.schema_version != Some(2) {
            return Err(ParseManifestError::SchemaVersion);
        }
        let fits = if media_type.is_index() {
            view.manifests.is_some() && view.config.is_none() && view.layers.is_none()
        } else {
            view.config.is_some() && view.manifests.is_none()
        };
        if !fits {
            return Err(ParseManifestError::Shape(media_type));
        }
        Ok(Self { bytes, media_type, view: Arc::new(view) })
    }

    /// A manifest as it is stored, whoever wrote it; it was checked when it was pushed.
    ///
    /// # Errors
    /// [`ParseManifestError`] when the bytes are of no kind that the registry takes.
    pub fn stored(bytes: Bytes) -> Result<Self, ParseManifestError> {
        let media_type = Self::media_type_of(&bytes)?;
        let view = serde_json::from_slice(&bytes).map_err(ParseManifestError::Json)?;
        Ok(Self { bytes, media_type, view: Arc::new(view) })
    }

    /// The media type of stored bytes, whoever wrote them; they were checked when they were pushed.
    ///
    /// # Errors
    /// [`ParseManifestError`] when the bytes are of no kind that the registry serves.
    pub fn media_type_of(bytes: &[u8]) -> Result<ManifestMediaType, ParseManifestError> {
        let kind: Kind = serde_json::from_slice(bytes).map_err(ParseManifestError::Json)?;
        match kind.media_type {
            Some(text) if !text.is_empty() => supported(&text),
            _ if kind.manifests.is_some() => Ok(ManifestMediaType::OciIndex),
            _ => Ok(ManifestMediaType::OciImage),
        }
    }

    /// The bytes exactly as they were pushed.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The media type.
    #[must_use]
    pub fn media_type(&self) -> ManifestMediaType {
        self.media_type
    }

    /// The blobs that must be in the repository for the manifest to be whole: config and layers.
    ///
    /// A layer that says where else it can be had need not be there (OCI image-spec, "Non-distributable
    /// layers").
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let layers = self.view.layers.iter().flatten().filter(|layer| layer.urls.is_empty());
        self.view.config.iter().chain(layers)
    }

    /// What the manifest is about, which need not be there.
    #[must_use]
    pub fn subject(&self) -> Option<&Digest> {
        self.view.subject.as_ref().map(|subject| &subject.digest)
    }

    /// The manifests that an index lists.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        self.view.manifests.iter().flatten()
    }
}

impl View {
    fn media_type(&self, content_type: Option<&str>) -> Result<ManifestMediaType, ParseManifestError> {
        let field = self.media_type.as_deref().filter(|text| !text.is_empty());
        match (content_type, field) {
            (Some(header), Some(field)) => {
                let media_type = supported(field)?;
                if header.parse() == Ok(media_type) {
                    Ok(media_type)
                } else {
                    Err(ParseManifestError::Mismatch { header: header.to_owned(), field: field.to_owned() })
                }
            }
            (Some(text), None) | (None, Some(text)) => supported(text),
            (None, None) => Err(ParseManifestError::NoMediaType),
        }
    }
}

fn supported(text: &str) -> Result<ManifestMediaType, ParseManifestError> {
    text.parse().map_err(|_| ParseManifestError::UnsupportedMediaType { found: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn digest(byte: &str) -> String {
        format!("sha256:{}", byte.repeat(32))
    }

    fn descriptor(byte: &str) -> String {
        format!(r#"{{"mediaType":"x/y","digest":"{}","size":3}}"#, digest(byte))
    }

    fn parse(text: &str, content_type: Option<&str>) -> Result<Manifest, ParseManifestError> {
        Manifest::parse(Bytes::from(text.to_owned()), content_type)
    }

    #[test]
    fn an_image_refers_to_its_config_and_the_layers_that_have_no_urls() {
        let foreign = format!(r#"{{"digest":"{}","size":1,"urls":["https://example.com/x"]}}"#, digest("cc"));
        let text = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{},{foreign}],"subject":{},"extra":{{"kept":1}}}}"#,
            descriptor("aa"),
            descriptor("bb"),
            descriptor("dd"),
        );
        let manifest = parse(&text, Some(IMAGE)).unwrap();
        let blobs: Vec<String> = manifest.blobs().map(|blob| blob.digest.to_string()).collect();
        assert_eq!(blobs, [digest("aa"), digest("bb")]);
        assert_eq!(manifest.children().count(), 0);
        assert_eq!(manifest.bytes(), text.as_bytes());
    }

    #[test]
    fn an_index_refers_to_its_children() {
        let text =
            format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, descriptor("aa"));
        let manifest = parse(&text, None).unwrap();
        assert_eq!(manifest.media_type(), ManifestMediaType::OciIndex);
        let children: Vec<String> = manifest.children().map(|child| child.digest.to_string()).collect();
        assert_eq!(children, [digest("aa")]);
        assert_eq!(manifest.blobs().count(), 0);
    }

    #[test]
    fn what_is_wrong_with_a_manifest_is_named() {
        let image = format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, descriptor("aa"));
        let typed = image.replacen('{', &format!(r#"{{"mediaType":"{IMAGE}","#), 1);
        let rows: [(&str, Option<&str>, &str); 9] = [
            ("", Some(IMAGE), "not valid JSON"),
            ("[]", Some(IMAGE), "not valid JSON"),
            (&image, None, "no media type"),
            (&image, Some("application/json"), "not supported"),
            (&image, Some("application/vnd.docker.distribution.manifest.v1+prettyjws"), "not supported"),
            (&typed, Some(INDEX), "but the manifest's mediaType is"),
            (&image, Some(INDEX), "not those of its media type"),
            (r#"{"schemaVersion":2,"manifests":[]}"#, Some(IMAGE), "not those of its media type"),
            (r#"{"schemaVersion":1,"manifests":[]}"#, Some(INDEX), "schemaVersion must be 2"),
        ];
        for (text, content_type, expected) in rows {
            let error = parse(text, content_type).unwrap_err().to_string();
            assert!(error.contains(expected), "{text} as {content_type:?}: {error}");
        }
        assert!(parse(&image.replace("sha256:aa", "sha256:zz"), Some(IMAGE)).is_err());
    }

    #[test]
    fn what_a_stored_manifest_leads_to_is_found_in_every_kind() {
        let layer = format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":3}}"#,
            digest("ee")
        );
        let child = format!(r#"{{"mediaType":"{IMAGE}","digest":"{}","size":3}}"#, digest("cc"));
        let (aa, bb, dd) = (descriptor("aa"), descriptor("bb"), descriptor("dd"));
        let rows = [
            (format!(r#"{{"config":{aa},"layers":[{bb}],"subject":{dd}}}"#), "aa bb", "", "dd"),
            (format!(r#"{{"manifests":[{child},{layer}],"subject":{dd}}}"#), "ee", "cc", "dd"),
            (format!(r#"{{"blobs":[{aa}]}}"#), "aa", "", ""),
            (format!(r#"{{"fsLayers":[{{"blobSum":"{}"}}]}}"#, digest("aa")), "aa", "", ""),
        ];
        let digests = |text: &str| -> Vec<String> { text.split_whitespace().map(digest).collect() };
        for (text, blobs, children, subject) in rows {
            let found = References::of(text.as_bytes()).unwrap();
            let texts = |found: &[Digest]| found.iter().map(ToString::to_string).collect::<Vec<_>>();
            let (found_blobs, _): (Vec<Digest>, Vec<u64>) = found.blobs.iter().cloned().unzip();
            assert_eq!(texts(&found_blobs), digests(blobs), "{text}");
            assert_eq!(texts(&found.children), digests(children), "{text}");
            assert_eq!(texts(&found.subject.into_iter().collect::<Vec<_>>()), digests(subject), "{text}");
        }
        for unknown in ["", "{}", r#"{"config":{}}"#, r#"{"layers":[{"digest":"sha256:1","size":1}]}"#] {
            assert!(References::of(unknown.as_bytes()).is_err(), "{unknown}");
        }
    }

    #[test]
    fn stored_bytes_tell_their_media_type() {
        let rows = [
            (format!(r#"{{"mediaType":"{INDEX}"}}"#), ManifestMediaType::OciIndex),
            (r#"{"manifests":[]}"#.to_owned(), ManifestMediaType::OciIndex),
            (r#"{"config":{},"layers":[]}"#.to_owned(), ManifestMediaType::OciImage),
        ];
        for (text, expected) in rows {
            assert_eq!(Manifest::media_type_of(text.as_bytes()).unwrap(), expected, "{text}");
        }
        assert!(Manifest::media_type_of(br#"{"mediaType":"text/plain"}"#).is_err());
    }
}
