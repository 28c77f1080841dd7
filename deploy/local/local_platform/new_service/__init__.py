"""`make new-service NAME=billing STORE=postgres`: writes a small working service with tests, and registers it.

`templates/common` and `templates/<store>` hold the service's files. `naming` checks its name, `registration` and
`containers` add it to the files that list all services, and `writing` does all of it or nothing.
"""
