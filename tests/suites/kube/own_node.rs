//! What netd has published in its own Node stays there.

use libtest_mimic::Trial;
use netd_tests::suite::test;
use netd_tests::{Outcome, ensure, eventually, seconds};
use serde_json::{Value, json};

use crate::bed::{Bed, routed, vxlan};
use crate::proxy::URL;
use crate::trouble::proxied;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("annotations that are taken away while they are written come back", taken_away),
        test("annotations that make no sense any more are put right", garbled),
    ]
}

/// netd learns that its annotations are gone before it gets the answer to the write that was made before.
fn taken_away() -> Outcome {
    let (bed, proxy) = proxied()?;
    bed.add_peer("a", 77)?;
    let daemon = bed.start("n1", &[URL])?;
    routed(bed.node("n1"), "10.244.77.0/24", true)?;
    // Nothing else is written from now on.
    bed.await_available("n1")?;
    let data = bed.annotation("n1", "backend-data")?;
    proxy.hold("PATCH /api/v1/nodes/n1/status");
    bed.annotate("n1", &json!({ "backend-data": r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}"# }))?;
    eventually(seconds(60), "netd has written its own", || {
        ensure!(proxy.held() == 1, "{} answers are held back", proxy.held());
        Ok(())
    })?;
    bed.await_annotation("n1", "backend-data", &data)?;
    bed.annotate("n1", &json!({ "kube-subnet-manager": null, "public-ip": null }))?;
    bed.passes_on("n1", 78)?;
    proxy.release();
    let restored = bed.await_annotation("n1", "public-ip", "192.168.1.11");
    restored.map_err(|failure| failure.with("netd", &daemon.log()))?;
    bed.await_annotation("n1", "kube-subnet-manager", "true")
}

/// A stranger damages what n1 has published.
fn garbled() -> Outcome {
    let bed = Bed::with(&vxlan())?;
    bed.add_peer("a", 77)?;
    let daemon = bed.start("n1", &[])?;
    routed(bed.node("n1"), "10.244.77.0/24", true)?;
    for name in ["public-ip", "backend-type", "backend-data", "netd-receives"] {
        let value = bed.annotation("n1", name)?;
        for damage in [json!("nonsense"), Value::Null] {
            bed.annotate("n1", &json!({ name: damage }))?;
            bed.await_annotation("n1", name, &value).map_err(|failure| failure.with("netd", &daemon.log()))?;
        }
    }
    eventually(seconds(30), "no record is passed over", || {
        let status = bed.run("n1", "status")?;
        ensure!(!status.contains("the record in the annotations"), "netd status says {status}");
        Ok(())
    })
}
