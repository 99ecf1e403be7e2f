//! `conf.d/*.toml` beside the configuration file.

use std::os::unix::fs::symlink;

use pontoon_testkit::Dir;

use super::load;

const SHOP: &str = "[connectors.shop]\ntype = \"sub0\"\nurl = \"ws://127.0.0.1:1/\"\n";

#[test]
fn files_in_conf_d_are_read_in_order_after_the_file() {
    let dir = Dir::new("drop-ins");
    let file = dir.write("pontoon.toml", "[log]\nlevel = \"debug\"\nformat = \"json\"\n");
    let folder = dir.path().join("conf.d");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("20-level.toml", "[log]\nlevel = \"warn\"\n");
    write("10-level.toml", "[log]\nlevel = \"trace\"\n");
    write("shop.toml", SHOP);
    write("desk.toml.off", &SHOP.replace("shop", "desk"));
    write(".hidden.toml", "not TOML");
    // As a volume of a ConfigMap has it.
    write("..data", &SHOP.replace("shop", "linked"));
    symlink("..data", folder.join("linked.toml")).unwrap();

    let loaded = load(file.clone(), &[]).ok().unwrap();
    assert_eq!(loaded.config.log.level, "warn");
    assert_eq!(loaded.config.connectors.keys().collect::<Vec<_>>(), ["linked", "shop"]);

    // Each error names its file and line.
    write("20-level.toml", "[log]\nlevel = 7\n");
    write("shop.toml", &SHOP.replace("sub0", "sub9"));
    let problems = load(file.clone(), &[]).err().unwrap().0;
    let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:#?}");
    for wanted in ["conf.d/20-level.toml:2: log.level", "conf.d/shop.toml:2: connectors.shop.type"] {
        assert!(shown.iter().any(|line| line.contains(wanted)), "{wanted}: {shown:#?}");
    }
    write("shop.toml", "[connectors");
    let problems = load(file, &[]).err().unwrap().0;
    assert!(problems[0].to_string().contains("conf.d/shop.toml:1: is not TOML"), "{}", problems[0]);
}
