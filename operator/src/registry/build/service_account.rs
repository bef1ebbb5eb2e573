//! The identity of the server's Pods. It has no rights and its token is not mounted, but for access reviews, see
//! `role_binding.rs` beside it.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{child, metadata};
use crate::children::{Child, Kind};
use crate::registry::validate::Valid;

pub(super) fn build(valid: &Valid<'_>) -> Child {
    let account = ServiceAccount {
        metadata: metadata(valid, valid.name.clone()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    child(Kind::ServiceAccount, valid.name.clone(), &account)
}
