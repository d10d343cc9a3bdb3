//! Generated names of pods and containers, which change with each restart.

/// Characters of the suffixes that Kubernetes generates (`k8s.io/apimachinery/pkg/util/rand`).
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// First words of the names that docker and podman give to containers without one
/// (`nifty_hopper`), as of Docker 28 (`internal/namesgenerator`).
const ADJECTIVES: &str = " admiring adoring affectionate agitated amazing angry awesome \
    beautiful blissful bold boring brave busy charming clever compassionate competent \
    condescending confident cool cranky crazy dazzling determined distracted dreamy eager \
    ecstatic elastic elated elegant eloquent epic exciting fervent festive flamboyant focused \
    friendly frosty funny gallant gifted goofy gracious great happy hardcore heuristic hopeful \
    hungry infallible inspiring intelligent interesting jolly jovial keen kind laughing loving \
    lucid magical modest musing mystifying naughty nervous nice nifty nostalgic objective \
    optimistic peaceful pedantic pensive practical priceless quirky quizzical recursing relaxed \
    reverent romantic sad serene sharp silly sleepy stoic strange stupefied suspicious sweet \
    tender thirsty trusting unruffled upbeat vibrant vigilant vigorous wizardly wonderful \
    xenodochial youthful zealous zen ";

/// The common name of an owner's pods: `web-64df67bd8b-xmzhv` of a Deployment is `web-*`, so are
/// `web-x7k2p` of a `DaemonSet` or Job, `web-28412345-x7k2p` of a `CronJob` and `web-0` of a
/// `StatefulSet`. Other names stay.
pub(crate) fn pod_owner(name: &str) -> String {
    let Some((base, last)) = name.rsplit_once('-').filter(|(base, _)| !base.is_empty()) else {
        return name.into();
    };
    if last.bytes().all(|b| b.is_ascii_digit()) && !last.is_empty() {
        return format!("{base}-*");
    }
    if last.len() != 5 || !is_suffix(last) {
        return name.into();
    }
    let owner = match base.rsplit_once('-') {
        Some((owner, hash)) if !owner.is_empty() && is_generation(hash) => owner,
        _ => base,
    };
    format!("{owner}-*")
}

/// The hash of a `ReplicaSet`'s template, or the minute of a `CronJob`'s run.
fn is_generation(word: &str) -> bool {
    let has_numeral = word.bytes().any(|b| b.is_ascii_digit());
    (8..=10).contains(&word.len())
        && has_numeral
        && (is_suffix(word) || word.bytes().all(|b| b.is_ascii_digit()))
}

fn is_suffix(word: &str) -> bool {
    word.bytes().all(|b| SUFFIX.contains(&b))
}

/// Whether docker or podman generated this name.
pub(crate) fn is_container_name(name: &str) -> bool {
    let Some((adjective, surname)) = name.split_once('_') else {
        return false;
    };
    // A name that is in use already gets a numeral.
    let surname = surname
        .strip_suffix(|c: char| c.is_ascii_digit())
        .unwrap_or(surname);
    !surname.is_empty()
        && surname.bytes().all(|b| b.is_ascii_lowercase())
        && adjective.bytes().all(|b| b.is_ascii_lowercase())
        && ADJECTIVES.contains(&format!(" {adjective} "))
}

#[cfg(test)]
mod tests {
    use crate::identity::generated_names::*;

    #[test]
    fn pods_are_named_by_their_owner() {
        for (pod, owner) in [
            ("web-64df67bd8b-xmzhv", "web-*"),
            ("hostname-lb-edge-64df67bd8b-xmzhv", "hostname-lb-edge-*"),
            ("aws-node-x7k2p", "aws-node-*"),
            ("backup-28412345-x7k2p", "backup-*"),
            ("db-0", "db-*"),
            (
                "kube-proxy-ip-10-0-0-1.ec2.internal",
                "kube-proxy-ip-10-0-0-1.ec2.internal",
            ),
            ("nginx-proxy", "nginx-proxy"),
            ("bare", "bare"),
            ("-", "-"),
            ("-x7k2p", "-x7k2p"),
            ("", ""),
        ] {
            assert_eq!(pod_owner(pod), owner, "{pod}");
        }
    }

    #[test]
    fn generated_container_names_are_recognised() {
        for name in ["nifty_hopper", "funny_brown", "zen_wu7"] {
            assert!(is_container_name(name), "{name}");
        }
        for name in [
            "web",
            "my_app",
            "nifty_",
            "nifty_Hopper",
            "_hopper",
            "",
            "web shop_x",
        ] {
            assert!(!is_container_name(name), "{name}");
        }
    }
}
