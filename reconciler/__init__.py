"""Pull reconciler: JumpCloud's users and groups in scope of the Keeper application, into Keeper over SCIM."""
