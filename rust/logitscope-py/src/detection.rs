//! Overlaps of boxes, their suppression, and the matching of the COCO evaluation.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, optional};
use crate::call::run;
use crate::errors::ArgumentError;
use logitscope_kernels::detection::{self as kernel, Matching, Method};
use pyo3::prelude::*;

#[pyfunction]
fn box_iou<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
    offset: f64,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("box_iou", a => box_iou_of(py, a, b, offset, out))
}

fn box_iou_of<'py, X: ArrayStored>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
    offset: f64,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (a, b): (Input<'py, X>, Input<'py, X>) = (a.extract()?, b.extract()?);
    let mut out: Filled<'py, X> = out.extract()?;
    let (a, b) = (contiguous("a", &a)?, contiguous("b", &b)?);
    let out = filled("out", &mut out, a.len() / 4 * (b.len() / 4))?;
    run::<X, _>(py, "box_iou", out.len(), |cancel| kernel::box_iou(a, b, offset, out, cancel))
}

/// The operations of Python that are this kernel: errors name the one that was called.
const OPERATIONS: [&str; 3] = ["soft_nms", "batched_soft_nms", "nms"];

/// How boxes suppress each other, from a dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Options {
    method: String,
    iou_threshold: f64,
    sigma: f64,
    score_threshold: f64,
    max_output: Option<usize>,
    offset: f64,
    hard_cut: Option<f64>,
    prefilter: bool,
}

impl Options {
    fn for_kernel(&self, operation: &str) -> PyResult<kernel::Options> {
        let operation = OPERATIONS.into_iter().find(|known| *known == operation).unwrap_or(OPERATIONS[0]);
        let (threshold, sigma) = (self.iou_threshold, self.sigma);
        Ok(kernel::Options {
            operation,
            method: match self.method.as_str() {
                "hard" => Method::Hard { threshold },
                "linear" => Method::Linear { threshold },
                "gaussian" => Method::Gaussian { sigma },
                name => {
                    let message =
                        format!("{operation}: method is '{name}'; use 'gaussian', 'linear' or 'hard'");
                    return Err(ArgumentError::new_err(message));
                }
            },
            hard_cut: self.hard_cut,
            score_threshold: self.score_threshold,
            prefilter: self.prefilter,
            max_output: self.max_output.unwrap_or(usize::MAX),
            offset: self.offset,
        })
    }
}

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "inputs, options and the arrays to fill of one operation")]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]
fn soft_nms<'py>(
    py: Python<'py>,
    operation: &str,
    boxes: &Bound<'py, PyAny>,
    scores: &Bound<'py, PyAny>,
    classes: Option<&Bound<'py, PyAny>>,
    options: Options,
    keep: &Bound<'py, PyAny>,
    kept_scores: &Bound<'py, PyAny>,
) -> PyResult<usize> {
    let options = options.for_kernel(operation)?;
    by_stored!(operation, boxes => soft_nms_of(py, boxes, scores, classes, &options, keep, kept_scores))
}

fn soft_nms_of<'py, X: ArrayStored>(
    py: Python<'py>,
    boxes: &Bound<'py, PyAny>,
    scores: &Bound<'py, PyAny>,
    classes: Option<&Bound<'py, PyAny>>,
    options: &kernel::Options,
    keep: &Bound<'py, PyAny>,
    kept_scores: &Bound<'py, PyAny>,
) -> PyResult<usize> {
    let (boxes, scores): (Input<'py, X>, Input<'py, X>) = (boxes.extract()?, scores.extract()?);
    let classes: Option<Input<'py, i64>> = optional(classes)?;
    let (mut keep, mut kept_scores): (Filled<'py, i64>, Filled<'py, X>) =
        (keep.extract()?, kept_scores.extract()?);
    let (boxes, scores) = (contiguous("boxes", &boxes)?, contiguous("scores", &scores)?);
    let classes = classes.as_ref().map(|classes| contiguous("classes", classes)).transpose()?;
    let keep = filled("keep", &mut keep, scores.len())?;
    let kept_scores = filled("kept_scores", &mut kept_scores, scores.len())?;
    let work = scores.len().saturating_mul(scores.len());
    run::<X, _>(py, options.operation, work, |cancel| {
        kernel::soft_nms(boxes, scores, classes, options, keep, kept_scores, cancel)
    })
}

/// Detections and true boxes of all images and classes, from a dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Boxes<'py> {
    detections: Input<'py, f64>,
    truths: Input<'py, f64>,
    groups: Vec<(usize, usize)>,
    crowd: Input<'py, bool>,
    ignored: Input<'py, bool>,
    outside: Input<'py, bool>,
    thresholds: Input<'py, f64>,
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]
fn coco_match<'py>(
    py: Python<'py>,
    boxes: Boxes<'py>,
    ranges: usize,
    matched: &Bound<'py, PyAny>,
    ignored: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (mut matched, mut ignored): (Filled<'py, bool>, Filled<'py, bool>) =
        (matched.extract()?, ignored.extract()?);
    let thresholds = contiguous("thresholds", &boxes.thresholds)?;
    let detections = contiguous("detections", &boxes.detections)?;
    let size = detections.len() / 4 * ranges * thresholds.len();
    let matched = filled("matched", &mut matched, size)?;
    let ignored = filled("ignored", &mut ignored, size)?;
    let matching = Matching {
        detections,
        truths: contiguous("truths", &boxes.truths)?,
        groups: &boxes.groups,
        crowd: contiguous("crowd", &boxes.crowd)?,
        ranges,
        ignored: contiguous("ignored", &boxes.ignored)?,
        outside: contiguous("outside", &boxes.outside)?,
        thresholds,
    };
    run::<f64, _>(py, "coco_match", size, |cancel| kernel::coco_match(&matching, matched, ignored, cancel))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(box_iou, module)?)?;
    module.add_function(wrap_pyfunction!(soft_nms, module)?)?;
    module.add_function(wrap_pyfunction!(coco_match, module)?)
}
