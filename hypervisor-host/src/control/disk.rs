//! Disks as a facility: which there are, adding, removing, growing.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Arguments, Facility, Failure, answer};
use crate::config::parse_bytes;
use crate::storage::controller::Controller;
use crate::storage::disk::DiskError;
use crate::storage::open;
use crate::storage::options::DiskOptions;

/// A controller's disks.
pub struct DiskFacility(Arc<Controller>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    disk: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resize {
    name: String,
    size: String,
}

impl DiskFacility {
    /// The disks of `controller`.
    pub fn new(controller: Arc<Controller>) -> Self {
        Self(controller)
    }

    fn list(&self) -> Value {
        let disks = self.0.units().into_iter().map(|(lun, unit)| {
            let info = unit.disk().info();
            json!({
                "name": lun.to_string(),
                "path": unit.name(),
                "bytes": info.bytes,
                "read_only": info.read_only,
            })
        });
        disks.collect()
    }

    fn add(&self, Add { disk }: &Add) -> Result<Value, Failure> {
        let options = DiskOptions::parse(disk.as_ref()).map_err(|error| {
            Failure::bad_request(format!("cannot add the disk {disk}: {error}"))
        })?;
        if options.ide.is_some() {
            return Err(Failure::bad_request(format!(
                "cannot add the disk {disk}: drives of the IDE controller are there from the start or not at all; leave out ide and cdrom"
            )));
        }
        let failed = |error: &dyn std::fmt::Display| Failure::failed(error.to_string());
        let lun = options.lun.or_else(|| self.0.free_lun());
        let lun = lun.ok_or_else(|| {
            failed(&format_args!("cannot add the disk {disk}: all numbers are taken; remove one"))
        })?;
        let unit = open::unit(&options, lun).map_err(|error| failed(&error))?;
        let added = self.0.add(lun, unit);
        added.map_err(|error| failed(&format_args!("cannot add the disk {disk}: {error}")))?;
        Ok(json!({ "name": lun.to_string() }))
    }

    fn remove(&self, Named { name }: &Named) -> Result<Value, Failure> {
        let lun = self.lun(name)?;
        let failed = |error| Failure::failed(format!("cannot remove the disk {name}: {error}"));
        let unit = self.0.remove(lun).map_err(failed)?;
        answer(&unit.report(lun))
    }

    fn resize(&self, Resize { name, size }: &Resize) -> Result<Value, Failure> {
        let lun = self.lun(name)?;
        let failed = |why: &dyn std::fmt::Display| {
            Failure::failed(format!("cannot resize the disk {name}: {why}"))
        };
        let bytes = parse_bytes(size).ok_or_else(|| {
            Failure::bad_request(format!("{size:?} is no size; give a number with K, M, G or T"))
        })?;
        let unit = self.0.unit(lun).ok_or_else(|| failed(&"it is gone; list the disks"))?;
        unit.disk().grow(bytes).map_err(|error| match error {
            DiskError::Unsupported => {
                failed(&"its size is that of its device or base; change that")
            }
            DiskError::Outside => {
                failed(&"it would lose data or end within a sector; give a larger multiple of 512")
            }
            error => failed(&format_args!("{error}; look at its file")),
        })?;
        let refreshed = self.0.refresh(lun).map_err(|error| failed(&error))?;
        Ok(json!({ "bytes": unit.disk().info().bytes, "changed": refreshed }))
    }

    /// A disk's number, by which it is named; its path does as well.
    fn lun(&self, name: &str) -> Result<u8, Failure> {
        let units = self.0.units();
        let found = units.iter().find(|(lun, unit)| lun.to_string() == name || unit.name() == name);
        found.map(|(lun, _)| *lun).ok_or_else(|| {
            Failure::failed(format!("there is no disk {name}; list those that there are"))
        })
    }
}

impl Facility for DiskFacility {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn verbs(&self) -> &'static [&'static str] {
        &["list", "add", "remove", "resize"]
    }

    fn call(&self, verb: &str, arguments: Arguments) -> Result<Value, Failure> {
        match verb {
            "add" => self.add(&arguments.read()?),
            "remove" => self.remove(&arguments.read()?),
            "resize" => self.resize(&arguments.read()?),
            _ => {
                arguments.read::<Nothing>()?;
                Ok(self.list())
            }
        }
    }

    fn status(&self) -> Value {
        self.list()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::test_folder::TestFolder;

    fn call(facility: &DiskFacility, verb: &str, arguments: Value) -> Result<Value, Failure> {
        let Value::Object(arguments) = arguments else { panic!("no object") };
        facility.call(verb, Arguments(arguments))
    }

    #[test]
    fn disks_are_added_grown_and_removed() {
        let folder = TestFolder::new();
        let path = folder.sparse("disk", 4096).to_string_lossy().into_owned();
        let facility = DiskFacility::new(Arc::default());
        let added = call(&facility, "add", json!({ "disk": format!("{path},lun=7") }));
        assert_eq!(added, Ok(json!({ "name": "7" })));
        let listed = json!([{ "name": "7", "path": path, "bytes": 4096, "read_only": false }]);
        assert_eq!(call(&facility, "list", json!({})), Ok(listed.clone()));
        assert_eq!(facility.status(), listed);
        let grown = call(&facility, "resize", json!({ "name": "7", "size": "8K" }));
        assert_eq!(grown, Ok(json!({ "bytes": 8192, "changed": true })));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 8192);
        let removed = call(&facility, "remove", json!({ "name": path })).unwrap();
        assert_eq!((&removed["lun"], &removed["errors"]), (&json!(7), &json!(0)));
        assert_eq!(call(&facility, "list", json!({})), Ok(json!([])));
    }

    #[test]
    fn what_can_not_be_done_is_told_with_advice() {
        let folder = TestFolder::new();
        let path = folder.sparse("disk", 4096).to_string_lossy().into_owned();
        let facility = DiskFacility::new(Arc::default());
        call(&facility, "add", json!({ "disk": format!("{path},ro") })).unwrap();
        for (verb, arguments, part) in [
            ("add", json!({ "disk": "/no/where" }), "/no/where"),
            ("add", json!({ "disk": format!("{path},ro,lun=0") }), "number 0 already"),
            ("add", json!({ "disk": format!("{path},lun=99") }), "from 0 to 63"),
            ("add", json!({ "disk": format!("{path},ide") }), "from the start or not at all"),
            ("remove", json!({ "name": "5" }), "no disk 5"),
            ("resize", json!({ "name": "0", "size": "12Q" }), "no size"),
            ("resize", json!({ "name": "0", "size": "8K" }), "its device or base"),
        ] {
            let message = call(&facility, verb, arguments).unwrap_err().message;
            assert!(message.contains(part) && message.contains("; "), "{message}");
        }
        assert!(call(&facility, "list", json!({ "x": 1 })).is_err());
        call(&facility, "remove", json!({ "name": "0" })).unwrap();
        call(&facility, "add", json!({ "disk": path })).unwrap();
        for size in ["2K", "8193"] {
            let resize = call(&facility, "resize", json!({ "name": "0", "size": size }));
            assert!(resize.unwrap_err().message.contains("multiple of 512"), "{size}");
        }
    }
}
