//! The auth state in the checkpoint: its bytes, and that nothing is lost on the way.

use super::AuthView;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use quorate_proto::authpb::permission::Type;
use quorate_proto::authpb::{Permission, UserAddOptions};
use quorate_proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest, AuthUserGrantRoleRequest,
};
use quorate_proto::quoratepb::command::Operation;
use quorate_proto::quoratepb::{AuthRecord, Checkpoint};

fn view() -> AuthView {
    let add = |name: &str, no_password| {
        let hashed_password = STANDARD.encode(if no_password { "" } else { "$2a" });
        let options = Some(UserAddOptions { no_password });
        let request = AuthUserAddRequest { name: name.to_owned(), options, hashed_password, password: String::new() };
        Operation::AuthUserAdd(request)
    };
    let grant = |user: &str, role: &str| {
        Operation::AuthUserGrantRole(AuthUserGrantRoleRequest { user: user.to_owned(), role: role.to_owned() })
    };
    let permit = |perm_type: Type, key: &'static str, range_end: &'static str| {
        let perm = Some(Permission { perm_type: perm_type as i32, key: key.into(), range_end: range_end.into() });
        Operation::AuthRoleGrantPermission(AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm })
    };
    let mut view = AuthView::default();
    for operation in [
        add("root", false),
        grant("root", "root"),
        Operation::AuthRoleAdd(AuthRoleAddRequest { name: "r".to_owned() }),
        add("a", true),
        grant("a", "r"),
        permit(Type::Write, "k", ""),
        permit(Type::Read, "d", "e"),
        Operation::AuthEnable(AuthEnableRequest {}),
    ] {
        view.change(&operation).unwrap();
    }
    view
}

#[test]
fn the_record_is_these_bytes() {
    let mut expected: Vec<u8> = vec![0x08, 1, 0x10, 8];
    let mut piece = |tag: u8, bytes: &[u8]| {
        expected.extend([tag, bytes.len() as u8]);
        expected.extend_from_slice(bytes);
    };
    piece(0x1a, b"\x0a\x0a\x0a\x01a\x1a\x01r\x22\x02\x08\x01\x10\x05\x18\x08");
    piece(0x1a, b"\x0a\x13\x0a\x04root\x12\x03$2a\x1a\x04root\x22\x00\x10\x02\x18\x03");
    piece(0x22, b"\x0a\x01r\x12\x06\x12\x01d\x1a\x01e\x12\x05\x08\x01\x12\x01k");
    assert_eq!(view().record().unwrap().encode_to_vec(), expected);
    let checkpoint = Checkpoint { auth: view().record(), ..Checkpoint::default() };
    assert_eq!(checkpoint.encode_to_vec()[0], 0x7a);
}

#[test]
fn what_is_read_back_is_what_was_written() {
    let record = view().record();
    let read = AuthRecord::decode(&record.clone().unwrap().encode_to_vec()[..]).unwrap();
    let again = AuthView::load(Some(&read));
    assert_eq!(again, view(), "compiled permissions included");
    assert_eq!(again.record(), record);
}

#[test]
fn a_checkpoint_without_auth_opens_with_auth_off() {
    let checkpoint = Checkpoint::decode(&Checkpoint::default().encode_to_vec()[..]).unwrap();
    let view = AuthView::load(checkpoint.auth.as_ref());
    assert!(!view.enabled());
    assert_eq!((view.revision(), view.users().len(), view.roles().len()), (1, 0, 0));
    assert_eq!(view.record(), None, "and is written as it was");
}
