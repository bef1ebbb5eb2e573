//! What is pushed: images that share layers, and indexes over such images.

use serde_json::json;

use crate::harness::content::{
    Content, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Random, index_of, manifest_of, noise,
};

/// How many layers and configurations everybody shares.
const SHARED: u64 = 12;

/// A manifest with all that it needs.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) blobs: Vec<Content>,
    pub(crate) children: Vec<Content>,
    pub(crate) manifest: Content,
}

impl Package {
    /// An image of which one layer is its own, and one is shared.
    pub(crate) fn image(random: &mut Random) -> Self {
        let seed = random.next();
        let config = Content::json(OCI_CONFIG, &json!({"seed": random.below(SHARED)}));
        let shared = Content::new(OCI_LAYER, noise(random.below(SHARED), 20_000));
        let own = Content::new(OCI_LAYER, noise(seed, 3000));
        let mut manifest = manifest_of(OCI_MANIFEST, &config, &[shared.clone(), own.clone()]);
        // Nobody else's image is the same, so that nobody else deletes it.
        manifest["annotations"] = json!({"seed": seed.to_string()});
        let manifest = Content::json(OCI_MANIFEST, &manifest);
        Self { blobs: vec![config, shared, own], children: Vec::new(), manifest }
    }

    /// An index over two such images.
    pub(crate) fn index(random: &mut Random) -> Self {
        let [one, other] = [Self::image(random), Self::image(random)];
        let manifest = index_of(OCI_INDEX, &[&one.manifest, &other.manifest]);
        let children = vec![one.manifest, other.manifest];
        Self { blobs: [one.blobs, other.blobs].concat(), children, manifest }
    }
}
