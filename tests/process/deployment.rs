//! What `deploy/` hands to nodes: the configurations are accepted, as the program reads them.

use std::path::Path;

use crate::process::{run, text, tidewire};

/// What comes from the environment there.
const SECRETS: [(&str, &str); 5] = [
    ("TIDEWIRE__CLUSTER_SECRET", SECRET),
    ("TIDEWIRE__AUTH__HMAC_SECRET", SECRET),
    ("TIDEWIRE__API_KEYS__0__KEY", SECRET),
    ("TIDEWIRE__API_KEYS__0__SCOPES", "publish,read,manage"),
    ("TIDEWIRE__REDIS__URL", "redis+sentinel://a,b,c/mymaster"),
];
const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn the_configurations_in_deploy_are_accepted_without_a_warning() {
    for file in ["deploy/tidewire.toml", "deploy/kubernetes/tidewire.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let mut command = tidewire(&["config", "--config", path.to_str().unwrap()]);
        let output = run(command.envs(SECRETS));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{file}: {said}");
        // Besides how long a drain takes nothing is said.
        assert!(
            said.lines().all(|line| line.starts_with("drain: ")),
            "{file}: {said}"
        );
        let shown = text(&output.stdout);
        assert!(shown.contains("window = \"1m\"") && !shown.contains(SECRET));
    }
}
