"""`make new-service NAME=billing STORE=postgres`: writes a small working service with its tests, and registers it.

`templates/common` and `templates/<store>` hold its files, `naming` decides whether a name can be one, `registration`
adds the service to the lists that name all services, `writing` does it all or nothing.
"""
