//! [NORMAL, SIGNAL] When and where: start-up, triggers, the phases of a checkpoint, the images'
//! directory.

pub mod call;
pub mod checkpoint;
pub mod children;
pub mod commit;
pub mod config;
pub mod descriptors;
pub mod lock;
pub mod period;
pub mod quiesce;
pub mod requests;
pub mod sections;
pub mod startup;
pub mod status;
pub mod takeover;
pub mod trigger;
pub mod writer;
pub mod young_daly;
