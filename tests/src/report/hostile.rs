//! Strings that a process may give itself, to break out of what they are shown in.

use imdsmon::{
    identity::workload::{Container, Pod},
    report::model::{PathReport, Report},
};

use super::busy;

/// Ways out of HTML, scripts, attributes, styles, SVG, Markdown, terminals and JSON.
///
/// What would run in a browser sets `window.pwned`; what would load anything asks `evil.test`.
pub const HOSTILE: &[&str] = &[
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "</style><script>window.pwned=1</script><style>",
    "<img src=x onerror=window.pwned=1>",
    "\"><svg onload=window.pwned=1><a href=\"",
    "' onmouseover='window.pwned=1' autofocus onfocus='window.pwned=1' x='",
    "</title></svg><iframe src=http://evil.test/></iframe>",
    "]]><animate onbegin=window.pwned=1 attributeName=x dur=1s>",
    "<!--<script>",
    "-->",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    "javascript:window.pwned=1",
    "<link rel=stylesheet href=http://evil.test/x.css><base href=http://evil.test/>",
    "<meta http-equiv=refresh content=0;url=http://evil.test/>",
    "{{7*7}}{% raw %}${window.pwned=1}<%= 1 %>",
    "| a | b |\\| c \\",
    "``` \n# heading\n```sh\nrm -rf /",
    "`` ` ``` ````",
    "![x](http://evil.test/x.png) [y](javascript:alert(1)) <http://evil.test>",
    "@everyone @octocat #1 octo/repo#1 www.evil.test http://evil.test",
    "**bold** _it_ ~~s~~ # h\n- item\n> quote\n---\n<details open>",
    "\x1b[2J\x1b]0;title\x07\x1b]8;;http://evil.test\x07click\x1b]8;;\x07",
    "\u{9b}31mred\u{9c}\r\n\tover\x08\x7f\0",
    "\u{202e}txt.exe\u{2066}\u{200b}\u{feff}",
    "\",\"verdict\":\"ready\"}],\"x\":[{\"",
    "\u{2028}\u{2029}\\u0022\\",
    "a\u{301}\u{301}\u{301}\u{301} 日本語 👩‍👩‍👧 \u{fffd}",
];

/// What a spreadsheet would compute.
pub const FORMULAS: &[&str] = &[
    "=HYPERLINK(\"http://evil.test\",\"x\")",
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    " =1+1",
    "\"=1+1",
    "a\n=1+1",
    "＝1+1",
];

/// The busy report with a client for each hostile string, which is put wherever a client, a
/// container or its requests have a say.
#[must_use]
pub fn hostile() -> Report {
    let mut report = busy();
    let models = std::mem::take(&mut report.clients);
    let flood = "A".repeat(100_000);
    let strings = HOSTILE.iter().chain(FORMULAS).copied().chain([&*flood]);
    for (text, model) in strings.zip(models.iter().cycle()) {
        let own = || text.to_owned();
        let mut client = model.clone();
        client.name = own();
        client.client.program = own();
        client.client.user = own();
        client.client.package = Some(own());
        client.client.workload.name = own();
        client.client.workload.container = Some(Container {
            id: own(),
            runtime: Some(own()),
            name: Some(own()),
            image: Some(own()),
        });
        client.client.workload.pod = Some(Pod {
            namespace: own(),
            name: own(),
            container: Some(own()),
        });
        for sdk in &mut client.sdks {
            sdk.name = own();
            sdk.version = Some(own());
        }
        client.user_agents = vec![own()];
        client.paths.push(PathReport {
            path: own(),
            ..client.paths[0].clone()
        });
        for sample in &mut client.samples {
            sample.server = Some(own());
            sample.method = own();
            sample.target = own();
            sample.user_agent = Some(own());
            sample.executable = Some(own());
            sample.args = vec![own(), own()];
            sample.ancestors = vec![(7, own())];
            sample.connector = Some(vec![own()]);
        }
        // A judgement may name what it is about.
        client.judgement.reason = format!("The program {text} calls without a token.");
        client.judgement.remedy.short = format!("update {text}");
        client.judgement.remedy.steps = vec![format!("Update {text}.")];
        client.judgement.remedy.commands = vec![format!("restart '{text}'")];
        report.clients.push(client);
    }
    report.instance.hostname = Some(HOSTILE.concat());
    report
}
