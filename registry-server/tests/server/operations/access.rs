//! Rules of access: what each caller may do, and may know of.

use serde_json::{Value, json};

use super::auth::{push_as_alice, server_with_users};
use crate::harness::client::{Request, delete, get, head, post, put};
use crate::harness::content::Image;
use crate::harness::conversation::{Step, case, check};
use crate::harness::server::TestServer;

const ACCESS: &str = "access.rules";

/// Whom the password file knows, and nobody.
#[derive(Clone, Copy, Debug)]
enum Caller {
    Nobody,
    Alice,
    Bob,
}

use Caller::{Alice, Bob, Nobody};

impl Caller {
    fn sends(self, request: Request) -> Request {
        match self {
            Nobody => request,
            Alice => request.basic("alice", "wonderland"),
            Bob => request.basic("bob", "p\u{e4}ss:word"),
        }
    }

    /// The answer to who must not do something: others could help, or nothing can.
    fn is_refused(self, request: Request) -> Step {
        match self {
            Nobody => request.gives(401).code("UNAUTHORIZED").some_header("www-authenticate"),
            Alice | Bob => self.sends(request).gives(403).code("DENIED").no_header("www-authenticate"),
        }
    }
}

/// Alice may do all. Bob may pull and push what is the team's, and list. Everyone may pull what is public, and knows of it.
async fn server_with_rules() -> (TestServer, Image) {
    let bob = json!([{"kind": "User", "name": "bob"}]);
    let rules = json!([
        {"subjects": [{"kind": "User", "name": "alice"}], "repositories": ["**"], "actions": ["pull", "push", "delete", "list"]},
        {"subjects": bob, "repositories": ["team/*", "home/{user}"], "actions": ["pull", "push"]},
        {"subjects": bob, "repositories": ["**"], "actions": ["list"]},
        {"subjects": [{"kind": "Anonymous"}], "repositories": ["public/**"], "actions": ["pull", "list"]},
    ]);
    let (server, image) = server_with_users(json!({"access": {"rules": rules}})).await;
    for name in ["public/base", "team/app"] {
        push_as_alice(&server, name, &image).await;
    }
    (server, image)
}

#[tokio::test]
async fn what_no_rule_grants_is_refused() {
    let (server, image) = server_with_rules().await;
    let blob = image.blobs[0].digest();
    let pull = |name: &str| get(&format!("/v2/{name}/manifests/v1"));
    let look = |name: &str| head(&format!("/v2/{name}/blobs/{blob}"));
    let tags = |name: &str| get(&format!("/v2/{name}/tags/list"));
    let referrers = |name: &str| get(&format!("/v2/{name}/referrers/{blob}"));
    let push = |name: &str| post(&format!("/v2/{name}/blobs/uploads/"));
    let tag = |name: &str| put(&format!("/v2/{name}/manifests/v2")).sends(image.manifest.bytes.clone());
    let remove = |name: &str| delete(&format!("/v2/{name}/blobs/{blob}"));
    let granted = [
        (Nobody, pull("public/base"), 200),
        (Nobody, look("public/base"), 200),
        (Nobody, tags("public/base"), 200),
        (Nobody, referrers("public/base"), 200),
        (Bob, pull("public/base"), 200),
        (Bob, pull("team/app"), 200),
        (Bob, tags("team/app"), 200),
        (Bob, push("team/app"), 202),
        (Bob, push("home/bob"), 202),
        (Bob, tag("team/app").with("content-type", &image.manifest.media_type), 201),
        (Bob, pull("team/nothing"), 404),
        (Alice, pull("operations/auth"), 200),
        (Alice, push("team/app"), 202),
    ];
    let refused = [
        (Nobody, get("/v2/")),
        (Nobody, pull("team/app")),
        (Nobody, push("public/base")),
        (Nobody, remove("public/base")),
        (Bob, push("public/base")),
        (Bob, remove("team/app")),
        (Bob, pull("team/app/part")),
        (Bob, push("home/alice")),
        (Bob, look("operations/auth")),
        (Bob, tags("operations/auth")),
        (Bob, referrers("operations/auth")),
        (Bob, tag("operations/auth")),
    ];
    let granted = granted.map(|(caller, request, status)| {
        case(ACCESS, format!("{caller:?} may"), [caller.sends(request).gives(status)])
    });
    let refused = refused
        .map(|(caller, request)| case(ACCESS, format!("{caller:?} may not"), [no_code(caller, request)]));
    check(&server, granted.into_iter().chain(refused)).await;
}

/// HEAD has no body to say a code in.
fn no_code(caller: Caller, request: Request) -> Step {
    if *request.method() != http::Method::HEAD {
        return caller.is_refused(request);
    }
    caller.sends(request).gives(if matches!(caller, Nobody) { 401 } else { 403 })
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_allowed_look_alike() {
    let (server, _) = server_with_rules().await;
    for caller in [Nobody, Bob] {
        let mut answers = Vec::new();
        for name in ["operations/auth", "operations/nothing"] {
            for path in ["manifests/v1", "tags/list"] {
                let answer = server.client().send(caller.sends(get(&format!("/v2/{name}/{path}")))).await;
                answers.push((answer.status, answer.body));
            }
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{caller:?}: {answers:?}");
    }
}

#[tokio::test]
async fn the_catalogue_shows_what_the_caller_may_list_and_pull() {
    let (server, _) = server_with_rules().await;
    let shown = |names: &[&str]| json!({ "repositories": names });
    let rows: [(Caller, Value); 3] = [
        (Nobody, shown(&["public/base"])),
        (Bob, shown(&["public/base", "team/app"])),
        (Alice, shown(&["operations/auth", "public/base", "team/app"])),
    ];
    let rows = rows.map(|(caller, shown)| {
        let whole = caller.sends(get("/v2/_catalog")).gives(200).json(shown).no_header("link");
        case(ACCESS, format!("{caller:?}'s catalogue"), [whole])
    });
    let page = Bob.sends(get("/v2/_catalog").query("n", "1")).gives(200).json(shown(&["public/base"]));
    let last = Bob.sends(get("/v2/_catalog").query("n", "1").query("last", "public/base"));
    let last = last.gives(200).json(shown(&["team/app"])).no_header("link");
    let pages = case(ACCESS, "pages count what is shown", [page.some_header("link"), last]);
    check(&server, rows.into_iter().chain([pages])).await;

    let rules = json!([{"subjects": [{"kind": "User", "name": "alice"}], "repositories": ["**"], "actions": ["pull", "push"]}]);
    let (server, _) = server_with_users(json!({"access": {"rules": rules}})).await;
    let rows = [Nobody, Bob, Alice]
        .map(|caller| case(ACCESS, "nobody may list", [caller.is_refused(get("/v2/_catalog"))]));
    check(&server, rows).await;
}

#[tokio::test]
async fn what_may_not_be_pulled_cannot_be_mounted_either() {
    let (server, image) = server_with_rules().await;
    let mount =
        |name: &str| post(&format!("/v2/{name}/blobs/uploads/")).query("mount", &image.blobs[0].digest());
    let rows = [
        (Bob, mount("team/one").query("from", "public/base"), 201),
        (Bob, mount("team/two").query("from", "team/app"), 201),
        (Bob, mount("team/three").query("from", "operations/auth"), 202),
        // Nobody says where it is from, so it could be from anywhere.
        (Bob, mount("team/four"), 202),
        (Alice, mount("team/five"), 201),
    ];
    let rows = rows.map(|(caller, request, status)| {
        case(ACCESS, format!("{caller:?} mounts"), [caller.sends(request).gives(status)])
    });
    check(&server, rows).await;
}

#[tokio::test]
async fn without_users_rules_are_about_everyone() {
    let rules = json!([{"subjects": [{"kind": "Anonymous"}], "repositories": ["open/*"], "actions": ["push", "pull"]}]);
    let server = TestServer::start(json!({"access": {"rules": rules}}));
    let rows = [
        case(ACCESS, "no credentials are asked for", [get("/v2/").gives(200)]),
        case(ACCESS, "what is granted", [post("/v2/open/app/blobs/uploads/").gives(202)]),
        case(
            ACCESS,
            "what is not",
            [
                post("/v2/other/blobs/uploads/").gives(403).code("DENIED"),
                get("/v2/_catalog").basic("any", "one").gives(403).code("DENIED"),
            ],
        ),
    ];
    check(&server, rows).await;
}
