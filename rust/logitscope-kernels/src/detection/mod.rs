//! Boxes of detectors: overlaps, non-maximum suppression hard and soft, and the matching of the COCO evaluation.

mod boxes;
mod coco_match;
mod hard;
mod soft;
mod suppression;

pub use boxes::box_iou;
pub use coco_match::{Matching, coco_match};
pub use suppression::{Method, Options, soft_nms};
