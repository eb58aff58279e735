//! Resolves users and groups from the image's /etc/passwd and /etc/group.

/// The user and groups of a process, and the user's home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Why a user cannot be found, with podman's messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves `user`, `uid`, `user:group` or `uid:gid`; empty is root. A name must
/// have an entry, a number need not. An explicit group replaces all groups of the
/// user, as with podman. `additional` groups are added, by name or number.
///
/// The primary group is one of the supplementary groups: a process could otherwise give it up with
/// setgid, and open a file that denies access to this group alone.
pub(crate) fn resolve(
    user_spec: &str,
    additional: &[String],
    passwd: &str,
    group: &str,
) -> Result<Credentials, UserError> {
    let (user, group_spec) = match user_spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user_spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let entry = passwd_entries(passwd).find(|entry| entry.name == user || Some(entry.uid) == number);
    let (uid, gid, name, home) = match (entry, number) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.name, entry.home),
        (None, Some(uid)) => (uid, 0, "", ""),
        (None, None) => return Err(UserError::User(user.to_owned())),
    };
    let home = if home.is_empty() { "/" } else { home }.to_owned();
    let (gid, memberships) = match group_spec {
        Some(group_spec) => (group_id(group_spec, group)?, Vec::new()),
        None => (gid, memberships(name, group)),
    };
    let mut groups = vec![gid];
    groups.extend(memberships);
    for name in additional {
        groups.push(group_id(name, group)?);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(Credentials { uid, gid, groups, home })
}

/// The name of a user, or the UID where it has none.
pub(crate) fn name_or_uid(uid: u32, passwd: &str) -> String {
    passwd_entries(passwd)
        .find(|entry| entry.uid == uid)
        .map_or_else(|| uid.to_string(), |entry| entry.name.to_owned())
}

fn group_id(group_spec: &str, group: &str) -> Result<u32, UserError> {
    let number = group_spec.parse::<u32>().ok();
    let entry = group_entries(group).find(|entry| entry.name == group_spec || Some(entry.gid) == number);
    entry.map(|entry| entry.gid).or(number).ok_or_else(|| UserError::Group(group_spec.to_owned()))
}

fn memberships(name: &str, group: &str) -> Vec<u32> {
    if name.is_empty() {
        return Vec::new();
    }
    group_entries(group)
        .filter(|entry| entry.members.split(',').any(|member| member.trim() == name))
        .map(|entry| entry.gid)
        .collect()
}

fn passwd_entries(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(User { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

fn group_entries(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        Some(Group { name, gid: fields.nth(1)?.parse().ok()?, members: fields.next().unwrap_or_default() })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nwww:x:33:34:www:/var/www:/bin/sh\n4000:x:7:7::/seven:\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:40:root,www\nmail:x:41:www\n";

    fn resolved(user_spec: &str) -> (u32, u32, Vec<u32>, String) {
        let Credentials { uid, gid, groups, home } = resolve(user_spec, &[], PASSWD, GROUP).expect("found");
        (uid, gid, groups, home)
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(resolved(""), (0, 0, vec![0, 40], "/root".into()));
        assert_eq!(resolved("www"), (33, 34, vec![34, 40, 41], "/var/www".into()));
        assert_eq!(resolved("33"), resolved("www"));
        assert_eq!(resolved("1000"), (1000, 0, vec![0], "/".into()));
        assert_eq!(resolved("4000"), (7, 7, vec![7], "/seven".into()));
    }

    #[test]
    fn a_group_given_by_hand_is_the_only_one() {
        assert_eq!(resolved("www:mail"), (33, 41, vec![41], "/var/www".into()));
        assert_eq!(resolved("1000:1001"), (1000, 1001, vec![1001], "/".into()));
        assert_eq!(resolved("www:"), resolved("www"));
    }

    #[test]
    fn additional_groups_are_added_once() {
        let groups = |user_spec: &str, additional: &[&str]| {
            let additional: Vec<String> = additional.iter().map(ToString::to_string).collect();
            resolve(user_spec, &additional, PASSWD, GROUP).map(|credentials| credentials.groups)
        };
        assert_eq!(groups("www", &["7", "logs", "root"]), Ok(vec![0, 7, 34, 40, 41]));
        assert_eq!(groups("1000:1001", &["mail"]), Ok(vec![41, 1001]));
        assert_eq!(groups("www", &["none"]), Err(UserError::Group("none".into())));
    }

    #[test]
    fn names_must_exist() {
        let resolve = |user_spec: &str| resolve(user_spec, &[], PASSWD, GROUP);
        assert_eq!(resolve("nobody"), Err(UserError::User("nobody".into())));
        assert_eq!(resolve("www:none"), Err(UserError::Group("none".into())));
        assert_eq!(resolve("-1"), Err(UserError::User("-1".into())));
    }

    #[test]
    fn a_number_without_a_name_is_its_own_name() {
        assert_eq!((name_or_uid(33, PASSWD), name_or_uid(5, PASSWD)), ("www".into(), "5".into()));
    }

    proptest! {
        #[test]
        fn noise_never_panics(user_spec: String, passwd: String, group: String) {
            drop(resolve(&user_spec, std::slice::from_ref(&group), &passwd, &group));
        }

        #[test]
        fn any_number_is_a_user(uid: u32, gid: u32, passwd in "[a-z]{1,8}:x:[a-z]{0,3}:1::/:\n") {
            let credentials = resolve(&format!("{uid}:{gid}"), &[], &passwd, "").expect("numbers need no entry");
            prop_assert_eq!((credentials.uid, credentials.gid), (uid, gid));
        }
    }
}
