//! The program `simulate` as its users run it: output, curves, exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn simulate(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulate"))
        .args(args)
        .current_dir(folder)
        .output()
        .expect("the program starts")
}

fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    std::str::from_utf8(&output.stdout).expect("text")
}

fn write(folder: &Path, name: &str, numbers: impl IntoIterator<Item = u32>) -> PathBuf {
    let path = folder.join(name);
    let bytes: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, bytes).expect("the folder can be written to");
    path
}

/// Worked by hand: with room for one, the optimum keeps 5 and never takes the others in; LRU never hits.
const BY_HAND: [u32; 5] = [5, 9, 5, 7, 5];

#[test]
fn json_is_one_object_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "by-hand.u32le", BY_HAND);
    let args =
        ["--trace", "by-hand.u32le", "--policy", "lru", "--peer", "none", "--capacity", "1,100%", "--json"];
    let output = simulate(folder.path(), &args);
    let wanted = json!({
        "trace": "by-hand",
        "requests": 5,
        "keys": 3,
        "rows": [
            {"capacity": 1, "subject": "OPT", "hit_ratio": 0.4},
            {"capacity": 1, "subject": "lru", "hit_ratio": 0.0},
            {"capacity": 3, "subject": "OPT", "hit_ratio": 0.4},
            {"capacity": 3, "subject": "lru", "hit_ratio": 0.4},
        ],
    });
    assert_eq!(serde_json::from_str::<Value>(stdout(&output)).unwrap(), wanted);
    assert_eq!(stdout(&output).lines().count(), 1);
}

#[test]
fn everybody_takes_part_and_the_curves_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(2);
    write(folder.path(), "a<b&c.u32le", (0..5_000).map(|_| rng.u32(0..400).min(rng.u32(0..400))));
    let output = simulate(folder.path(), &["--trace", "a<b&c.u32le", "--svg", "out/curves.svg", "--json"]);
    let replay: Value = serde_json::from_str(stdout(&output)).unwrap();
    let rows = replay["rows"].as_array().unwrap();
    let subjects: Vec<&str> =
        rows.iter().filter(|row| row["capacity"] == 2).map(|row| row["subject"].as_str().unwrap()).collect();
    assert_eq!(rows.len(), 4 * subjects.len());
    for wanted in ["OPT", "lru", "sieve", "quick_cache", "moka", "mini-moka", "stretto", "foyer", "TinyUFO"] {
        assert!(subjects.contains(&wanted), "{wanted} is not among {subjects:?}");
    }
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("out/curves.svg"),
        "it says where the curves are"
    );

    let svg = std::fs::read_to_string(folder.path().join("out/curves.svg")).unwrap();
    let document = roxmltree::Document::parse(&svg).expect("well-formed");
    assert_eq!(document.root_element().tag_name().name(), "svg");
    let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).map(str::trim).collect();
    assert!(texts.iter().any(|text| text.contains("a<b&c")), "the title is escaped: {texts:?}");
    for subject in &subjects {
        assert!(texts.iter().any(|text| text.starts_with(subject)), "{subject} is not named in the picture");
    }
    let curves = document.descendants().filter(|node| node.has_tag_name("polyline")).count();
    assert!(curves >= subjects.len(), "{curves} lines for {} subjects", subjects.len());
}

#[test]
fn without_json_it_prints_a_table_and_a_folder_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "loop.u32le", (0..2_000).map(|at| at % 250));
    std::fs::write(folder.path().join("words.txt"), "gpu-1\ngpu-2\ngpu-1\n").unwrap();
    std::fs::write(folder.path().join("README.md"), "no trace").unwrap();
    let common = ["--policy", "sieve", "--peer", "quick_cache", "--capacity", "30%"];
    let one = simulate(folder.path(), &[&["--trace", "words.txt"], &common[..]].concat());
    assert!(stdout(&one).contains("words: 3 requests, 2 keys"));
    assert!(stdout(&one).contains("| OPT"));
    assert!(folder.path().join("target/simulate/words.svg").exists());

    let all = simulate(folder.path(), &[&["--all", ".", "--svg", "out"], &common[..]].concat());
    assert!(
        stdout(&all).contains("of 1 cells"),
        "one cell is judged, the other is too small: {}",
        stdout(&all)
    );
    assert!(stdout(&all).contains("not judged"));
    assert!(folder.path().join("out/loop.svg").exists());
    let all = simulate(folder.path(), &[&["--all", ".", "--json"], &common[..]].concat());
    assert_eq!(serde_json::from_str::<Value>(stdout(&all)).unwrap().as_array().unwrap().len(), 2);
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(4);
    write(folder.path(), "t.u32le", (0..20_000).map(|_| rng.u32(0..9_000).min(rng.u32(0..9_000))));
    let args = ["--trace", "t.u32le", "--peer", "quick_cache", "--capacity", "2000", "--json", "--seed"];
    let run = |seed| stdout(&simulate(folder.path(), &[&args[..], &[seed]].concat())).to_owned();
    assert_eq!(run("7"), run("7"));
    assert_ne!(run("7"), run("8"));
}

#[test]
fn what_is_asked_wrongly_is_told_with_cause_and_cure() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "good", [1, 2, 1]);
    write(folder.path(), "empty", []);
    std::fs::write(folder.path().join("odd"), [1, 0, 0, 0, 2]).unwrap();
    std::fs::create_dir(folder.path().join("nothing")).unwrap();
    for (args, words) in [
        (&["--trace", "odd"][..], &["odd", "cut off", "--format"][..]),
        (&["--trace", "empty"], &["empty", "a request or more"]),
        (&["--trace", "absent"], &["absent", "No such file"]),
        (&["--trace", "nothing"], &["not a file", "--all"]),
        (&["--all", "nothing"], &["no trace in the folder"]),
        (&["--all", "absent"], &["absent", "No such file"]),
        (&["--trace", "good", "--policy", "mru"], &["mru", "there are", "sieve"]),
        (&["--trace", "good", "--peer", "memcached"], &["memcached", "there are", "moka"]),
        (&["--trace", "good", "--capacity", "0"], &["1 entry or more"]),
        (&["--trace", "good", "--capacity", "120%"], &["at most 100"]),
        (&["--trace", "good", "--capacity", "-3"], &["no capacity", "percent"]),
        (&["--trace", "good", "--capacity", "much"], &["no capacity", "percent"]),
        (&[], &["--trace"]),
    ] {
        let output = simulate(folder.path(), args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(output.stdout.is_empty());
        for word in words {
            assert!(error.contains(word), "{args:?} should tell {word}: {error}");
        }
    }
    let output = simulate(folder.path(), &["--trace", "good", "--svg", "/proc/none/curves.svg"]);
    assert_eq!(output.status.code(), Some(1), "a place that cannot be written to is another matter");
}
