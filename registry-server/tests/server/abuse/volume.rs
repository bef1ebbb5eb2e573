//! Volumes that fail: full ones, read-only ones, and trees in which something is missing or cut.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::client::{Answer, LOCATION, Request, delete, get, head, post, put};
use crate::harness::content::{Image, image};
use crate::harness::conversation::{Case, case, check};
use crate::harness::server::TestServer;
use crate::harness::tree::Tree;

const SMALL: &str = "mount -t tmpfs -o size=4m,nr_inodes=2000 none \"$ROOT\"";
const PAGE: u64 = 4096;
const FILES: u64 = 2000;

/// What takes all space.
enum Ballast {
    /// Bytes in one file.
    Bytes,
    /// Files without a byte, on a file system that can have only so many.
    Files,
}

impl Ballast {
    /// Fills the file system but for `room` pages or files.
    fn load(&self, directory: &Path, room: u64) {
        let ballast = directory.join("ballast");
        fs::create_dir(&ballast).unwrap();
        match self {
            Self::Bytes => {
                let mut file = File::create(ballast.join("0")).unwrap();
                while file.write_all(&[1; 4096]).is_ok() {}
                let length = file.metadata().unwrap().len();
                file.set_len(length.saturating_sub(room * PAGE)).unwrap();
            }
            Self::Files => {
                let file = |number: u64| ballast.join(number.to_string());
                let count = (0..FILES).find(|number| File::create(file(*number)).is_err()).unwrap();
                (count - room..count).for_each(|number| fs::remove_file(file(number)).unwrap());
            }
        }
    }

    fn unload(directory: &Path) {
        fs::remove_dir_all(directory.join("ballast")).unwrap();
    }
}

/// The room grows by one page, or one file, at a time, so that each step of a push is the one that fails.
#[tokio::test]
async fn a_push_that_finds_the_disk_full_fails_clearly_at_every_step() {
    let directory = Arc::new(TempDir::new().unwrap());
    let server = TestServer::start_after(SMALL, &directory, json!({}));
    let root = server.root_inside();
    for (ballast, rooms) in [(Ballast::Bytes, 0..24), (Ballast::Files, 0..40)] {
        let mut failures = 0;
        for room in rooms {
            let (image, name) = (image(room), format!("abuse/full{room}"));
            ballast.load(&root, room);
            let refused = push(&server, &name, &image).await.err();
            Ballast::unload(&root);
            if let Some(answer) = refused {
                failures += 1;
                assert_eq!(
                    (answer.status, answer.codes()),
                    (507, vec!["UNAVAILABLE".to_owned()]),
                    "{room}: {answer}"
                );
                assert!(String::from_utf8_lossy(&answer.body).contains("no space left"), "{answer}");
            }
            assert_eq!(Tree::read(&root).faults(), Vec::<String>::new(), "{room}");
            push(&server, &name, &image).await.unwrap_or_else(|answer| panic!("with space again: {answer}"));
            let pulled = server.client().send(get(&format!("/v2/{name}/manifests/v1"))).await;
            assert_eq!(pulled.body, image.manifest.bytes);
            fs::remove_dir_all(root.join("docker")).unwrap();
        }
        assert!(failures > 3, "the disk was full at only {failures} steps");
    }
}

/// Pushes the image; the answer that ended it if it is not whole.
async fn push(server: &TestServer, name: &str, image: &Image) -> Result<(), Answer> {
    let mut client = server.client();
    let mut requests = Vec::new();
    for blob in &image.blobs {
        requests.push(post(&format!("/v2/{name}/blobs/uploads/")));
        requests.push(put(LOCATION).query("digest", &blob.digest()).sends(blob.bytes.clone()));
    }
    let manifest = put(&format!("/v2/{name}/manifests/v1")).with("content-type", &image.manifest.media_type);
    requests.push(manifest.sends(image.manifest.bytes.clone()));
    for request in requests {
        let answer = client.send(request).await;
        if answer.status >= 300 {
            return Err(answer);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_read_only_volume_is_read_and_says_that_it_takes_no_writes() {
    let image = image(1);
    let mut server = TestServer::start(json!({}));
    server.client().push_image("abuse/volume", "v1", &image).await;
    server.kill();
    let commands = "mount --bind \"$ROOT\" \"$ROOT\"; mount -o remount,bind,ro \"$ROOT\"";
    let server = TestServer::start_after(commands, server.directory(), json!({}));

    let (manifest, blob) = (&image.manifest, &image.blobs[1]);
    let by_tag = "/v2/abuse/volume/manifests/v1";
    let by_digest = format!("/v2/abuse/volume/manifests/{}", manifest.digest());
    let layer = format!("/v2/abuse/volume/blobs/{}", blob.digest());
    let reads = [by_tag, &by_digest, &layer, "/v2/abuse/volume/tags/list", "/v2/_catalog"];
    let referrers = format!("/v2/abuse/volume/referrers/{}", manifest.digest());
    let reads = reads.into_iter().chain([referrers.as_str()]).flat_map(|path| [get(path), head(path)]);
    let reads = reads.map(|request| case("a read", request.to_string(), [request.gives(200)]));
    let push = |name: &str| -> Request {
        put(&format!("/v2/{name}/manifests/v2"))
            .with("content-type", &manifest.media_type)
            .sends(manifest.bytes.clone())
    };
    let uploads = "/v2/abuse/volume/blobs/uploads/";
    let writes = [
        post(uploads),
        post(uploads).query("digest", &image.blobs[0].digest()).sends(image.blobs[0].bytes.clone()),
        post("/v2/abuse/other/blobs/uploads/").query("mount", &blob.digest()).query("from", "abuse/volume"),
        push("abuse/volume"),
        delete(by_tag),
        delete(&by_digest),
        delete(&layer),
    ];
    let writes = writes.map(|request| {
        let says = request.to_string();
        let refused = request.gives(503).code("UNAVAILABLE");
        case(
            "a write",
            says,
            [refused.and("it says why", |answer| {
                String::from_utf8_lossy(&answer.body).contains("takes no writes")
            })],
        )
    });
    check(&server, reads.chain(writes)).await;

    let remount = "mount -o remount,bind,rw \"$ROOT\"";
    let mut inside = Command::new("nsenter");
    inside
        .args(["--mount", "--target", &server.id().to_string(), "sh", "-euc", remount])
        .env("ROOT", server.root());
    assert!(inside.status().unwrap().success());
    let healed = case(
        "a write",
        "once the volume takes writes",
        [push("abuse/volume").gives(201), delete(by_tag).gives(202)],
    );
    check(&server, [healed]).await;
}

/// Whatever is wrong with one image, the other one and the lists of the repository are served.
#[tokio::test]
async fn what_is_damaged_is_an_error_of_its_own() {
    let server = TestServer::start(json!({}));
    let (good, bad) = (image(1), image(2));
    let mut client = server.client();
    client.push_image("abuse/damaged", "good", &good).await;
    let without = Tree::read(&server.root());
    let untouched: Vec<String> = without.finished().keys().map(|path| (*path).to_owned()).collect();
    client.push_image("abuse/damaged", "bad", &bad).await;
    let whole = Tree::read(&server.root());
    for (path, bytes) in
        whole.finished().into_iter().filter(|(path, _)| !untouched.iter().any(|known| known == path))
    {
        let file = server.root().join("docker/registry/v2").join(path);
        let damages = [
            None,
            Some(b"".as_slice()),
            Some(&bytes[..bytes.len() / 2]),
            Some(b"sha256:../../x"),
            Some(b"\0\xff{"),
        ];
        for damage in damages {
            match damage {
                Some(damage) => fs::write(&file, damage).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let says = format!("{path} is {:?}", damage.map(String::from_utf8_lossy));
            check(&server, [sound(&says, &good)]).await;
            judge_damaged(&server, &says, &bad).await;
            fs::write(&file, bytes).unwrap();
        }
    }
}

fn sound(says: &str, image: &Image) -> Case {
    let name = "/v2/abuse/damaged";
    let blobs = image.blobs.iter().map(|blob| get(&format!("{name}/blobs/{}", blob.digest())).gives(200));
    let steps = [
        get(&format!("{name}/manifests/good")).gives(200).body(image.manifest.bytes.clone()),
        get(&format!("{name}/tags/list")).gives(200),
        get("/v2/_catalog").gives(200),
        get(&format!("{name}/referrers/{}", image.manifest.digest())).gives(200),
    ];
    case("the sound image", says, blobs.chain(steps))
}

/// The bytes of a blob are not looked at when they are sent, but whatever is answered belongs to the image alone.
async fn judge_damaged(server: &TestServer, says: &str, image: &Image) {
    let name = "/v2/abuse/damaged";
    let blobs = image.blobs.iter().map(|blob| format!("{name}/blobs/{}", blob.digest()));
    let references = ["bad".to_owned(), image.manifest.digest()];
    let manifests = references.iter().map(|reference| format!("{name}/manifests/{reference}"));
    for path in blobs.chain(manifests) {
        let answer = server.client().send(get(&path)).await;
        let is_clear = match answer.status {
            200 => true,
            404 | 500 => answer.codes().len() == 1,
            _ => false,
        };
        assert!(is_clear, "{says}: {path}: {answer}");
        if answer.status == 500 {
            assert!(String::from_utf8_lossy(&answer.body).contains("sha256:"), "{says}: {path}: {answer}");
        }
    }
}
