"""What tests of services need: fakes of the kit, load that counts what is lost."""
