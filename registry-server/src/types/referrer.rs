//! Referrers: manifests that say with `subject` which other manifest they are about.
//!
//! Spec: distribution-spec "Listing Referrers".

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::descriptor::Descriptor;
use super::digest::Digest;
use super::media_type::ManifestMediaType;

/// A referrer as it is listed: the descriptor of a manifest, with what tells referrers apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrer {
    /// Media type of the manifest.
    pub media_type: String,
    /// Digest of the manifest.
    pub digest: Digest,
    /// Size of the manifest in bytes.
    pub size: u64,
    /// What kind of artifact it is: what an image says of itself, else the media type of its config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifest's annotations, as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Value>,
}

/// The fields of a manifest of any kind that were checked when it was pushed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    media_type: Option<String>,
    config: Option<Config>,
    manifests: Option<IgnoredAny>,
    subject: Option<Descriptor>,
}

/// The fields that nothing depends on: a manifest is listed without them when they are not well formed.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remarks {
    artifact_type: Option<String>,
    annotations: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    media_type: String,
}

impl Referrer {
    /// The subject of a stored manifest and the manifest as its referrer; `None` if it is about nothing, or cannot be
    /// read.
    #[must_use]
    pub fn of(digest: &Digest, bytes: &Bytes) -> Option<(Digest, Self)> {
        let fields: Fields = serde_json::from_slice(bytes).ok()?;
        let subject = fields.subject?.digest;
        let remarks: Remarks = serde_json::from_slice(bytes).unwrap_or_default();
        let stated = |text: Option<String>| text.filter(|text| !text.is_empty());
        let media_type = match (&fields.media_type, fields.manifests) {
            (Some(media_type), _) if !media_type.is_empty() => media_type,
            (_, Some(_)) => ManifestMediaType::OciIndex.as_str(),
            (_, None) => ManifestMediaType::OciImage.as_str(),
        };
        let referrer = Self {
            media_type: media_type.to_owned(),
            digest: digest.clone(),
            size: bytes.len() as u64,
            artifact_type: stated(remarks.artifact_type)
                .or_else(|| stated(fields.config.map(|config| config.media_type))),
            annotations: remarks.annotations.filter(Value::is_object),
        };
        Some((subject, referrer))
    }
}

#[cfg(test)]
mod tests {
    use super::Referrer;
    use crate::types::{Algorithm, Digest, Hasher};
    use bytes::Bytes;
    use serde_json::{Value, json};

    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn digest(text: &str) -> Digest {
        Hasher::digest(Algorithm::Sha256, text.as_bytes())
    }

    fn subject() -> Value {
        json!({"mediaType": IMAGE, "digest": digest("subject"), "size": 7})
    }

    fn of(manifest: &Value) -> Option<(Digest, Referrer)> {
        Referrer::of(&digest("own"), &Bytes::from(manifest.to_string()))
    }

    #[test]
    fn a_referrer_repeats_what_its_manifest_says() {
        let config = json!({"mediaType": "application/vnd.x.config"});
        for (manifest, media_type, artifact_type) in [
            (json!({"mediaType": IMAGE, "config": config}), IMAGE, Some("application/vnd.x.config")),
            (json!({"config": config, "artifactType": ""}), IMAGE, Some("application/vnd.x.config")),
            (json!({"config": config, "artifactType": "x/sbom"}), IMAGE, Some("x/sbom")),
            (json!({"config": {}}), IMAGE, None),
            (json!({"manifests": []}), INDEX, None),
            (json!({"mediaType": INDEX, "manifests": [], "artifactType": "x/y"}), INDEX, Some("x/y")),
            (json!({"mediaType": "old/artifact", "blobs": []}), "old/artifact", None),
        ] {
            let mut manifest = manifest;
            manifest["subject"] = subject();
            manifest["annotations"] = json!({"key": "value"});
            let (about, referrer) = of(&manifest).unwrap();
            assert_eq!(about, digest("subject"));
            assert_eq!(
                (referrer.media_type.as_str(), referrer.artifact_type.as_deref()),
                (media_type, artifact_type)
            );
            assert_eq!(referrer.annotations, Some(json!({"key": "value"})));
            assert_eq!(referrer.size, manifest.to_string().len() as u64);
        }
    }

    #[test]
    fn what_is_about_nothing_is_no_referrer() {
        for manifest in [json!({"config": {}}), json!([]), json!({"subject": "x"}), json!({"subject": null})]
        {
            assert_eq!(of(&manifest), None, "{manifest}");
        }
        let odd = of(&json!({"subject": subject(), "annotations": [1]})).unwrap();
        assert_eq!(odd.1.annotations, None);
    }

    /// Its push was acknowledged with the header that says that it is listed.
    #[test]
    fn a_referrer_whose_remarks_cannot_be_read_is_listed_without_them() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for remark in ["\"artifactType\":7".to_owned(), format!("\"annotations\":{{\"a\":{deep}}}")] {
            let manifest =
                format!("{{\"config\":{{\"mediaType\":\"x/y\"}},\"subject\":{},{remark}}}", subject());
            let (about, referrer) = Referrer::of(&digest("own"), &Bytes::from(manifest)).unwrap();
            assert_eq!(about, digest("subject"));
            assert_eq!((referrer.artifact_type.as_deref(), referrer.annotations), (Some("x/y"), None));
        }
    }
}
