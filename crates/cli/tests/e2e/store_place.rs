//! Where the store is: beside the configuration file, made by `serve` alone, and one file for one gateway.

use std::{fs, path::Path, process::Output};

use crate::running::binary;

const BACKEND: &str = "[[backends]]\nname = \"a\"\nkind = \"loop\"\nsettings = { base_url = \"https://a.example\", token = \"env:REGISTRAR_TEST_NOT_SET\" }\n";

fn configure(folder: &Path, url: &str) -> String {
    let file = folder.join("registrar.toml");
    fs::write(&file, format!("[store]\nurl = \"{url}\"\n{BACKEND}")).unwrap();
    file.display().to_string()
}

fn run(from: &Path, args: &[&str]) -> (Output, String) {
    let out = binary().args(args).current_dir(from).output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    (out, told)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn no_command_makes_a_store() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = configure(home.path(), "sqlite:registrar.db");
    let before = names(home.path());
    for from in [home.path(), elsewhere.path()] {
        for args in [
            &["keys", "list"][..],
            &["keys", "create", "me"],
            &["keys", "delete", "me"],
            &["initial-access-tokens", "create", "p"],
            &["initial-access-tokens", "list"],
            &["initial-access-tokens", "delete", "x"],
            &["store", "check"],
            &["store", "backup", "night.db"],
        ] {
            let (out, told) = run(from, &[args, &["-c", &config]].concat());
            assert_eq!(out.status.code(), Some(1), "{args:?} {told}");
            assert!(told.contains(&home.path().join("registrar.db").display().to_string()), "{args:?}: {told}");
            assert!(out.stdout.is_empty(), "{args:?}");
        }
    }
    // an empty file is no store, and stays empty
    fs::write(home.path().join("registrar.db"), "").unwrap();
    let (out, told) = run(elsewhere.path(), &["keys", "list", "-c", &config]);
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert!(told.contains("there is no store there"), "{told}");
    assert_eq!(fs::metadata(home.path().join("registrar.db")).unwrap().len(), 0);
    fs::remove_file(home.path().join("registrar.db")).unwrap();
    assert_eq!((names(home.path()), names(elsewhere.path())), (before, Vec::new()));
}

#[test]
fn the_store_is_beside_the_configuration_wherever_a_command_starts() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = configure(home.path(), "sqlite:registrar.db");
    let path = home.path().join("registrar.db");
    // no vendor's token is needed: REGISTRAR_TEST_NOT_SET is not set
    let (out, told) = run(elsewhere.path(), &["keys", "create", "me", "--init", "-c", &config]);
    assert!(out.status.success(), "{told}");
    assert!(told.contains(&format!("store: sqlite:{}", path.display())), "{told}");
    assert!(path.is_file() && names(elsewhere.path()).is_empty());
    // by a relative path, and through a symbolic link: the folder of the path as it was given
    std::os::unix::fs::symlink(home.path(), elsewhere.path().join("link")).unwrap();
    for file in ["link/registrar.toml", "./link/./registrar.toml", config.as_str()] {
        let (out, told) = run(elsewhere.path(), &["keys", "list", "-c", file]);
        assert!(out.status.success(), "{file}: {told}");
        assert!(String::from_utf8_lossy(&out.stdout).contains("me"), "{file}");
    }
    let (out, told) = run(elsewhere.path(), &["store", "backup", "night.db", "-c", &config]);
    assert!(out.status.success() && !told.contains("holds nothing"), "{told}");
    assert!(elsewhere.path().join("night.db").is_file(), "an argument counts from the working directory");
    let (out, told) = run(elsewhere.path(), &["keys", "delete", "me", "-c", &config]);
    assert!(out.status.success(), "{told}");
    let (out, told) = run(elsewhere.path(), &["store", "backup", "empty.db", "-c", &config]);
    assert!(out.status.success() && told.contains("holds nothing"), "{told}");
}

#[test]
fn a_store_in_the_old_place_is_not_passed_over() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = configure(home.path(), "sqlite:registrar.db");
    run(home.path(), &["keys", "create", "me", "--init", "-c", &config]);
    fs::rename(home.path().join("registrar.db"), elsewhere.path().join("registrar.db")).unwrap();
    for args in [&["check", "--no-secrets"][..], &["serve"], &["keys", "list"], &["store", "check"]] {
        let (out, told) = run(elsewhere.path(), &[args, &["-c", &config]].concat());
        assert_eq!(out.status.code(), Some(1), "{args:?} {told}");
        for folder in [&home, &elsewhere] {
            assert!(told.contains(&folder.path().join("registrar.db").display().to_string()), "{args:?}: {told}");
        }
    }
    assert_eq!(names(home.path()), ["registrar.toml"]);
    // from anywhere else there is nothing to mistake it for
    let (out, told) = run(Path::new("/"), &["check", "--no-secrets", "-c", &config]);
    assert!(out.status.success(), "{told}");
}

#[test]
fn secret_files_are_beside_the_configuration_too() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = home.path().join("registrar.toml");
    let text = format!(
        "[store]\nurl = \"file:store.url\"\n{}",
        BACKEND.replace("env:REGISTRAR_TEST_NOT_SET", "file:loop.token")
    );
    fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    fs::write(elsewhere.path().join("loop.token"), "old").unwrap();
    fs::write(home.path().join("store.url"), "sqlite:data.db\n").unwrap();
    let (out, told) = run(elsewhere.path(), &["check", "-c", &config]);
    assert_eq!(out.status.code(), Some(1));
    assert!(told.contains("counts from the configuration file (there is one at"), "{told}");
    fs::write(home.path().join("loop.token"), "new").unwrap();
    let (out, told) = run(elsewhere.path(), &["check", "-c", &config]);
    assert!(out.status.success(), "{told}");
    let (_, told) = run(elsewhere.path(), &["keys", "list", "-c", &config]);
    assert!(told.contains(&home.path().join("data.db").display().to_string()), "{told}");
}

#[test]
fn a_check_needs_no_secret() {
    let home = tempfile::tempdir().unwrap();
    let config = configure(home.path(), "env:REGISTRAR_TEST_NOT_SET");
    let (out, told) = run(home.path(), &["check", "-c", &config]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(told.matches("is not set").count(), 2, "{told}");
    let (out, told) = run(home.path(), &["check", "--no-secrets", "-c", &config]);
    assert!(out.status.success(), "{told}");
    // what a command needs is still asked for
    let (out, told) = run(home.path(), &["keys", "list", "-c", &config]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(told.matches("is not set").count(), 1, "{told}");
}
