"""Pull reconciler: JumpCloud's users and groups in scope of the Keeper application, into Keeper over SCIM."""

__version__ = "0.1.0"
