//! The HTML report in a real browser.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use imdsmon::{
    report::model::Report,
    sandbox::{ImdsConfig, ImdsSimulator},
};
use serde_json::{Value, json};
use tests::{
    browser::Browser,
    report::{FORMATS, busy, hostile, overflowed, quiet},
    skipped,
};

/// Opens a report where nothing outside can be reached.
fn with_page(report: &Report, test: impl Fn(&Browser, &Path) + Send + Sync) {
    if skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.html");
    let (_, html) = FORMATS.iter().find(|(name, _)| *name == "html").unwrap();
    fs::write(&file, html(report)).unwrap();
    let simulator = ImdsSimulator::start(ImdsConfig::default()).unwrap();
    simulator
        .run(|| {
            if let Some(browser) = Browser::start() {
                browser.open(&file);
                test(&browser, &file);
            }
        })
        .unwrap();
}

/// Types into the filter.
fn filter(browser: &Browser, text: &str) {
    drop(browser.run(&format!(
        "const search = document.getElementById('search');
         search.value = {};
         search.dispatchEvent(new Event('input'));",
        json!(text)
    )));
}

/// Programs in the rows that are shown, in order.
fn programs(browser: &Browser) -> Vec<String> {
    let names = browser.run(
        "return [...document.querySelectorAll('#clients tbody tr')]
            .filter((row) => row.checkVisibility())
            .map((row) => row.querySelector('.name').textContent);",
    );
    serde_json::from_value(names).unwrap()
}

#[test]
fn no_string_of_a_process_runs_loads_or_becomes_markup() {
    with_page(&hostile(), |browser, file| {
        assert_eq!(
            browser.run(
                "for (const block of document.querySelectorAll('details')) block.open = true;
                 document.body.click();
                 for (const e of document.querySelectorAll('*')) {
                     e.dispatchEvent(new Event('mouseover'));
                 }
                 const attributes = [...document.querySelectorAll('*')]
                    .flatMap((e) => [...e.attributes].map((a) => a.name));
                 return {
                    pwned: window.pwned ?? null,
                    scripts: document.scripts.length,
                    styles: document.querySelectorAll('style').length,
                    foreign: document.querySelectorAll(
                        'img,iframe,link,base,object,embed,animate,form,svg a,meta[http-equiv=refresh]').length,
                    handlers: attributes.filter((a) => a.startsWith('on') || a === 'style'),
                    links: [...document.links].map((a) => a.href).filter((href) =>
                        !href.startsWith('https://docs.aws.amazon.com/') && !href.includes('report.html#c')),
                 };"
            ),
            json!({"pwned": null, "scripts": 1, "styles": 1, "foreign": 0, "handlers": [], "links": []})
        );
        assert_eq!(browser.requests(), [format!("file://{}", file.display())]);
        // They are shown as they are.
        assert!(programs(browser).contains(&"<script>window.pwned=1</script>".to_owned()));
        let text = browser.run("return document.body.innerText");
        let text = text.as_str().unwrap();
        assert!(!text.contains(['\u{202e}', '\u{1b}', '\u{200b}']));
    });
}

#[test]
fn the_policy_stops_a_script_that_would_get_in() {
    with_page(&quiet(), |browser, file| {
        let html = fs::read_to_string(file).unwrap();
        let broken = file.with_file_name("broken.html");
        let bad = "<script>window.pwned=1</script><img src=http://evil.test/x onerror=window.pwned=2>\
                   <p style='color:red' id=styled></p><main>";
        fs::write(&broken, html.replacen("<main>", bad, 1)).unwrap();
        browser.open(&broken);
        let seen = browser.run("return [window.pwned ?? null, getComputedStyle(styled).color];");
        assert_eq!(seen[0], Value::Null);
        assert_ne!(seen[1], "rgb(255, 0, 0)");
        // Our own style is in force.
        let width = browser.run("return getComputedStyle(document.querySelector('main')).maxWidth");
        assert_eq!(width, "1180px");
    });
}

#[test]
fn the_table_is_filtered_and_sorted() {
    with_page(&busy(), |browser, _| {
        assert_eq!(programs(browser).len(), 11);
        filter(browser, "POD shop");
        assert_eq!(programs(browser), ["/app/cart"]);
        let blocks = browser.run(
            "return [...document.querySelectorAll('details')].filter((b) => b.checkVisibility()).length",
        );
        assert_eq!(blocks, 1);
        assert_eq!(browser.run("return shown.textContent"), "1 of 11 shown");
        filter(browser, "<b>");
        assert_eq!(programs(browser), Vec::<String>::new());
        filter(browser, "");
        let chosen = browser.run(
            "verdict.value = 'ready'; verdict.dispatchEvent(new Event('input')); return verdict.value",
        );
        assert_eq!(chosen, "ready");
        assert_eq!(
            programs(browser),
            ["/usr/bin/cloud-init", "/usr/bin/ecs-agent"]
        );
        drop(browser.run(
            "verdict.value = ''; acting.checked = true; acting.dispatchEvent(new Event('input'));",
        ));
        assert_eq!(programs(browser).len(), 5);
        let sort = "document.querySelectorAll('#clients th button')[2].click();";
        drop(browser.run(&format!("{sort}{sort}")));
        assert_eq!(
            programs(browser)[..2],
            ["/opt/orders/worker.py", "/app/cart"]
        );
        drop(browser.run(sort));
        assert_eq!(programs(browser)[0], "/home/ana/bin/whereami");
    });
}

#[test]
fn on_a_phone_nothing_is_wider_than_the_screen() {
    for report in [busy(), hostile(), quiet()] {
        with_page(&report, |browser, _| {
            for width in [320, 390, 920, 921, 1200] {
                browser.emulate(width, 800, false);
                let wide = browser.run(
                    "for (const block of document.querySelectorAll('details')) block.open = true;
                     return document.documentElement.scrollWidth",
                );
                let wide = wide.as_u64().unwrap();
                assert!(wide <= u64::from(width), "{width}: {wide}");
            }
        });
    }
    with_page(&busy(), |browser, _| {
        let cells = "return getComputedStyle(document.querySelector('#clients td')).display";
        browser.emulate(1200, 800, false);
        assert_eq!(browser.run(cells), "table-cell");
        browser.emulate(390, 800, false);
        assert_eq!(browser.run(cells), "block", "a card");
    });
}

#[test]
fn it_is_dark_in_the_dark() {
    with_page(&busy(), |browser, _| {
        let back = "return getComputedStyle(document.body).backgroundColor";
        browser.emulate(1200, 800, false);
        let light = browser.run(back);
        browser.emulate(1200, 800, true);
        assert_ne!(browser.run(back), light);
    });
}

#[test]
fn on_paper_every_block_is_open() {
    with_page(&busy(), |browser, _| {
        let inside = "return [...document.querySelectorAll('.inside')].filter((e) =>
            e.checkVisibility()).length";
        assert_eq!(browser.run(inside), 5, "those that need action");
        browser.emulate_paper();
        assert_eq!(browser.run(inside), 11);
        let filter = browser.run("return document.getElementById('filter').checkVisibility()");
        assert_eq!(filter, false);
    });
}

#[test]
fn each_timeline_says_in_words_what_it_shows() {
    with_page(&busy(), |browser, _| {
        let labels = browser.run(
            "return [...document.querySelectorAll('svg')].map((s) =>
                s.getAttribute('role') + ' ' + s.getAttribute('aria-label'))",
        );
        let labels: Vec<String> = serde_json::from_value(labels).unwrap();
        // One in the table, one in the block.
        assert_eq!(labels.len(), 22);
        let agent = labels
            .iter()
            .filter(|label| label.contains(": 84 in total, at most 2 "));
        assert_eq!(agent.count(), 2, "{labels:?}");
        assert!(
            labels
                .iter()
                .all(|label| label.starts_with("img IMDSv1 calls from"))
        );
    });
}

#[test]
fn a_thousand_clients_can_be_searched() {
    with_page(&overflowed(1000), |browser, _| {
        let begin = Instant::now();
        filter(browser, "worker.py-990");
        assert_eq!(programs(browser), ["/opt/orders/worker.py-990"]);
        filter(browser, "");
        drop(browser.run("document.querySelectorAll('#clients th button')[0].click()"));
        assert_eq!(programs(browser).len(), 1000);
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
    });
}

/// The pictures of the documentation, where `IMDSMON_SCREENSHOTS` names a directory.
#[test]
fn screenshots() {
    let Some(directory) = std::env::var_os("IMDSMON_SCREENSHOTS").map(PathBuf::from) else {
        return;
    };
    fs::create_dir_all(&directory).unwrap();
    with_page(&busy(), |browser, _| {
        for (name, width, height, is_dark, scroll) in [
            ("report-light.png", 1200, 1400, false, "body"),
            ("report-dark.png", 1200, 1400, true, "body"),
            ("report-client.png", 1200, 900, false, "#c1"),
            ("report-phone.png", 390, 1400, false, "body"),
        ] {
            browser.emulate(width, height, is_dark);
            drop(browser.run(&format!(
                "document.documentElement.style.scrollBehavior = 'auto';
                 document.querySelector('{scroll}').scrollIntoView();"
            )));
            browser.screenshot(&directory.join(name));
        }
    });
}
